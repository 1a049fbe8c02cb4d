/*
 * The page's side of a local app: finds it on one of its ports, shows it the token, comes back when it does, and says
 * why it cannot. One file without imports, for any browser with ES modules; the server needs the option `app`.
 */

/**
 * Why the app was not reached, as far as a page may know:
 *
 * - `not-running`: nothing answers on any port. Also a certificate that the browser does not accept, and a question for
 *   permission that the user has left open
 * - `permission`: the browser does not let this page talk to this computer
 * - `mixed-content`: the browser does not let a page over https open ws: to that host, so use `secure`; or it does not
 *   like `path` or `subprotocols`
 * - `wrong-app`: another app, or another server that this page may read
 * - `refused`: something listens and does not answer this page: the app does not let this Origin or Host in (see its
 *   `refused` handler) or has no room, or it is another program
 * - `no-token`: `token` has thrown or rejected
 * - `wrong-token`: it is the app, and the token is wrong
 */
export type FailureReason =
  | 'not-running'
  | 'permission'
  | 'mixed-content'
  | 'wrong-app'
  | 'refused'
  | 'no-token'
  | 'wrong-token'

/** `waiting`: for the next attempt. `closed` is for good. */
export type AppConnectionState = 'connecting' | 'open' | 'waiting' | 'closed'

/** Why an attempt has failed, and whether there will be another. */
export interface FailureEvent {
  readonly reason: FailureReason
  readonly willRetry: boolean
}

/** How an open connection has ended (RFC 6455 §7.1.5, §7.1.6), and whether it will be opened again. */
export interface AppCloseEvent {
  readonly code: number
  readonly reason: string
  readonly wasClean: boolean
  readonly willRetry: boolean
}

/** Options of `connectToApp`. An exception in a handler is reported as that of any event listener is. */
export interface ConnectToAppOptions {
  /** Ports on which the app may listen, tried in order; the one that worked last is tried first. */
  readonly possiblePorts: readonly number[]
  /** Name that the server has been given as `app`. Default: any app of this kind, which then is shown the token. */
  readonly app?: string | undefined
  /** The token, or what gives it: called whenever the app was found, so that it may be a new one each time. */
  readonly token?: string | (() => string | Promise<string>) | undefined
  /** Default 127.0.0.1. */
  readonly host?: string | undefined
  /** Speak wss: and https:, to a server with the option `tls`. Default false. */
  readonly secure?: boolean | undefined
  /** Path of the WebSocket, with a query if there is one; or what gives it, for each attempt. Default `/`. */
  readonly path?: string | (() => string) | undefined
  /** Subprotocols to offer. Default none. */
  readonly subprotocols?: readonly string[] | undefined
  /** Most bytes that wait for the app; beyond it `send` says false. One message of any size may wait. Default 1 MiB. */
  readonly maxQueuedBytes?: number | undefined
  /** Shortest pause between two attempts, in milliseconds; what may be added doubles with each failure. Default 250. */
  readonly minDelayMs?: number | undefined
  /** Longest pause between two attempts, in milliseconds. Default 30,000. */
  readonly maxDelayMs?: number | undefined
  /** How long a port may take to say which app it is, in milliseconds. Default 10,000. */
  readonly probeTimeoutMs?: number | undefined
  /** The app is there. What is sent here goes before what is queued. */
  open?(): void
  /** The app has sent a message: text as a string, binary as bytes. */
  message?(data: string | Uint8Array): void
  /** An open connection has ended. */
  close?(event: AppCloseEvent): void
  /** An attempt has failed on all ports. */
  failure?(event: FailureEvent): void
}

/** A connection to an app, through all its interruptions. */
export interface AppConnection {
  readonly state: AppConnectionState
  /** Port on which the app was found last. */
  readonly port: number | undefined
  /** Bytes that wait: for the app, or in the browser. */
  readonly queuedBytes: number
  /**
   * Sends a message, or queues it until the app is there. False when it was not accepted: the queue is full, or the
   * connection is closed. A message goes out once at most: one that was on its way when the connection broke is lost.
   */
  send(data: string | Uint8Array | ArrayBuffer): boolean
  /** Tries again at once instead of waiting, for instance when the user clicks on something. */
  retry(): void
  /** Ends it for good, and drops what is queued. */
  close(code?: number, reason?: string): void
}

/** From vague to telling: of several ports, the one that says most decides. */
const REASONS = [
  'not-running',
  'permission',
  'mixed-content',
  'wrong-app',
  'refused',
  'no-token',
  'wrong-token',
] as const

/** Close codes that mean: do not come back. Policy, and what 401 and 403 are called in the range for applications. */
const FINAL_CODES = [1008, 4401, 4403]

/** A connection that ends sooner counts as another failure, so that an app that throws everybody out is not stormed. */
const STABLE_MS = 5_000

/**
 * Finds the app, connects, and goes on doing so until `close()`, a wrong token, or a Close frame that says not to come
 * back. Before a port is shown the token it must say that it is the app.
 */
export function connectToApp(options: ConnectToAppOptions): AppConnection {
  const { app, token = '', host = '127.0.0.1', secure, path = '/', subprotocols = [] } = options
  const { maxQueuedBytes = 1_048_576, minDelayMs = 250, maxDelayMs = 30_000, probeTimeoutMs = 10_000 } = options
  const s = secure ? 's' : ''
  const encoder = new TextEncoder()
  let ports = [...options.possiblePorts]
  let state: AppConnectionState = 'connecting'
  let socket: WebSocket | undefined
  let current: number | undefined
  let queue: (string | Uint8Array | ArrayBuffer)[] = []
  let queuedBytes = 0
  let failures = 0
  let wrongTokens = 0
  let timer = 0

  /** Not `state`: a socket that is closing takes no messages any more, and has no event yet. */
  const isOpen = (): boolean => socket?.readyState === 1
  const waiting = (): number => (isOpen() ? socket!.bufferedAmount : queuedBytes)

  /** Calls a handler; what it throws goes to the page's error events, and not into the connection. */
  function tell(handler: 'open' | 'message' | 'close' | 'failure', event?: unknown): void {
    try {
      options[handler]?.(event as never)
    } catch (error) {
      reportError(error)
    }
  }

  function ask(port: number, init: RequestInit): Promise<Response> {
    const signal = AbortSignal.timeout(probeTimeoutMs)
    return fetch(`http${s}://${host}:${port}/.well-known/fullduplex`, { ...init, signal })
  }

  function newSocket(port: number, offered?: string[]): WebSocket {
    return new WebSocket(`ws${s}://${host}:${port}${typeof path === 'function' ? path() : path}`, offered)
  }

  /** A port has not answered in a way that this page may read. */
  async function whyUnreadable(port: number): Promise<FailureReason> {
    try {
      // Says nothing but that there is an answer to HTTP.
      await ask(port, { mode: 'no-cors' })
      return 'refused'
    } catch {}
    for (const name of ['loopback-network', 'local-network-access']) {
      try {
        // Browsers without this rule, or with another name for it, throw.
        const { state } = await navigator.permissions.query({ name: name as PermissionName })
        if (state === 'denied') return 'permission'
      } catch {}
    }
    // Nobody listens there, or mixed content throws. Once, for it leaves a line in the console.
    if (!failures && !s && location.protocol === 'https:') newSocket(port).close()
    return 'not-running'
  }

  /** Resolves when the connection is open, or will not be. */
  function open(port: number, secret: string): Promise<boolean> {
    const base64 = btoa(String.fromCharCode(...encoder.encode(secret)))
    const bearer = `bearer.${base64.replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '')}`
    return new Promise((resolve) => {
      const opening = newSocket(port, [...subprotocols, 'fullduplex', bearer])
      let openSince = 0
      socket = opening
      opening.binaryType = 'arraybuffer'
      opening.onopen = () => {
        openSince = performance.now()
        current = port
        ports = [...new Set([port, ...ports])]
        wrongTokens = 0
        state = 'open'
        resolve(true)
        tell('open')
        for (const data of queue) opening.send(data as string)
        drop()
      }
      opening.onmessage = ({ data }) => tell('message', typeof data === 'string' ? data : new Uint8Array(data))
      opening.onclose = ({ code, reason, wasClean }) => {
        resolve(false)
        if (!openSince) return
        if (performance.now() - openSince > STABLE_MS) failures = 0
        // It restarts, or has too much to do: more time, and not all at once.
        if (code === 1012 || code === 1013) failures ||= 3
        const willRetry = goOn(!FINAL_CODES.includes(code))
        tell('close', { code, reason, wasClean, willRetry })
      }
    })
  }

  /** Undefined when the connection is open. */
  async function tryPort(port: number): Promise<FailureReason | undefined> {
    let name: unknown
    try {
      // A redirect would lead to somebody else.
      name = (await (await ask(port, { redirect: 'error' })).json()).app
    } catch {
      return whyUnreadable(port)
    }
    if (!name || name !== (app ?? name)) return 'wrong-app'
    let secret: string
    try {
      secret = await (typeof token === 'function' ? token() : token)
    } catch {
      return 'no-token'
    }
    if ((state as string) === 'closed' || (await open(port, secret))) return
    try {
      const answer = await ask(port, { redirect: 'error', headers: { Authorization: `Bearer ${secret}` } })
      // 401, or 429 for one of many wrong ones.
      if (!answer.ok || (await answer.json()).token === 'missing') return 'wrong-token'
    } catch {}
    return 'refused'
  }

  async function attempt(): Promise<void> {
    state = 'connecting'
    let most = 0
    for (const port of ports) {
      // What throws is the constructor of WebSocket.
      const found = await tryPort(port).catch((): FailureReason => 'mixed-content')
      if (!found || (state as string) === 'closed') return
      most = Math.max(most, REASONS.indexOf(found))
    }
    const reason = REASONS[most]!
    // A token that was just fetched may still be the old one, once.
    const isFinal = reason === 'wrong-token' && (typeof token !== 'function' || wrongTokens++ > 0)
    const willRetry = goOn(!isFinal && reason !== 'mixed-content')
    tell('failure', { reason, willRetry })
  }

  /** Waits for the next attempt, or ends. */
  function goOn(mayRetry: boolean): boolean {
    if (state === 'closed') return false
    if (!mayRetry) {
      close()
      return false
    }
    state = 'waiting'
    const most = Math.min(maxDelayMs, minDelayMs * 2 ** ++failures)
    timer = setTimeout(attempt, minDelayMs + Math.random() * (most - minDelayMs))
    return true
  }

  function drop(): void {
    queue = []
    queuedBytes = 0
  }

  function close(code?: number, reason?: string): void {
    socket?.close(code, reason)
    state = 'closed'
    clearTimeout(timer)
    drop()
  }

  attempt()

  return {
    get state() {
      return state
    },
    get port() {
      return current
    },
    get queuedBytes() {
      return waiting()
    },
    send(data) {
      const size = typeof data === 'string' ? encoder.encode(data).length : data.byteLength
      if (state === 'closed' || (waiting() && waiting() + size > maxQueuedBytes)) return false
      if (isOpen()) socket!.send(data as string)
      else {
        // A copy: the page may write into its bytes meanwhile.
        queue.push(data.slice(0))
        queuedBytes += size
      }
      return true
    },
    retry() {
      if (state !== 'waiting') return
      clearTimeout(timer)
      attempt()
    },
    close,
  }
}
