import { createInterface } from 'node:readline'

// npm passes on a Ctrl-C that the terminal has already sent to the whole process group: two signals, one key press.
const SAME_KEY_PRESS_MS = 300
const ORPHAN_CHECK_MS = 250

/** The first SIGINT or SIGTERM stops politely, a second one (a person who does not want to wait) at once. */
export function onStopSignal(stop: () => Promise<void>): void {
  let stoppingSince: number | undefined
  const handle = (exitCodeAtOnce: number): void => {
    if (stoppingSince === undefined) {
      stoppingSince = performance.now()
      stop().then(
        () => process.exit(0),
        () => process.exit(1),
      )
    } else if (performance.now() - stoppingSince > SAME_KEY_PRESS_MS) {
      process.exit(exitCodeAtOnce)
    }
  }
  process.on('SIGINT', () => handle(130))
  process.on('SIGTERM', () => handle(143))
  onceOrphaned(() => handle(143))
}

/**
 * "npm start" puts a shell between itself and us, and passes a SIGTERM to that shell alone: npm ends, the shell ends, and
 * nobody tells us. Who was started without npm may outlive a parent on purpose (nohup, disown).
 */
function onceOrphaned(act: () => void): void {
  if (process.env['npm_lifecycle_event'] === undefined) return
  const parent = process.ppid
  const timer = setInterval(() => {
    if (process.ppid === parent) return
    clearInterval(timer)
    act()
  }, ORPHAN_CHECK_MS)
  timer.unref()
}

/** Calls back for each line that is not blank. The end of the input is not the end of the app. */
export function onLine(input: NodeJS.ReadableStream, take: (line: string) => void): void {
  input.on('error', () => {})
  // terminal: false leaves line editing and Ctrl-C to the terminal itself.
  createInterface({ input, terminal: false }).on('line', (line) => {
    if (line.trim() !== '') take(line)
  })
}
