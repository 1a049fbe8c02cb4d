import { randomBytes } from 'node:crypto'
import { CloseCode, type WebSocketConnection, WebSocketServer, type WebSocketServerOptions } from '../index.ts'
import { formatEnvelope, PAGE_SUBPROTOCOL, parseEnvelope, type ToPage } from './envelope.ts'
import { createAnswers } from './page.ts'
import type { Report } from './report.ts'

const MAX_MESSAGE_BYTES = 1024 * 1024
const STOP_TIMEOUT_MS = 1_000

/** How the app calls a client: "tab 3" is a page, "client 4" any other program. */
interface Guest {
  readonly name: string
}

type Client = WebSocketConnection<Guest>

/** The app behind the page: takes what is sent to it, and passes on what is meant for everyone. */
export class Relay {
  readonly #server: WebSocketServer<Guest>
  readonly #report: Report
  readonly #run = randomBytes(9).toString('base64url')
  #numbered = 0

  constructor(where: WebSocketServerOptions<Guest>, report: Report) {
    this.#report = report
    this.#server = new WebSocketServer<Guest>({
      ...where,
      subprotocols: [PAGE_SUBPROTOCOL],
      maxMessageBytes: MAX_MESSAGE_BYTES,
      respond: createAnswers(this.#run),
      open: (client) => this.#welcome(client),
      message: (client, content) => this.#receive(client, content),
      close: (client, { code, reason }) => this.#farewell(client, code, reason),
      refused: (refusal) => report.refused(refusal),
      error: (error, client) => report.error(error, client?.data?.name),
    })
  }

  async listen(): Promise<number> {
    const { port } = await this.#server.listen()
    return port
  }

  /** A line typed in the terminal: to all. */
  say(text: string): void {
    const reached = this.#sendToAll({ type: 'message', from: 'app', text }, text)
    this.#report.message('app', `everyone (${reached})`, text)
  }

  close(): Promise<void> {
    return this.#server.close({ code: CloseCode.GOING_AWAY, reason: 'The app was stopped', timeoutMs: STOP_TIMEOUT_MS })
  }

  #welcome(client: Client): void {
    const who = `${speaksEnvelopes(client) ? 'tab' : 'client'} ${++this.#numbered}`
    client.data = { name: who }
    this.#report.connected(who, client.remoteAddress)
    const tabs = this.#server.clients.size
    if (speaksEnvelopes(client)) {
      const welcome = { type: 'welcome', you: who, tabs, run: this.#run, maxMessageBytes: MAX_MESSAGE_BYTES } as const
      client.send(formatEnvelope(welcome))
    }
    this.#sendToAll({ type: 'joined', who, tabs }, undefined, client)
  }

  #farewell(client: Client, code: number, reason: string): void {
    const who = client.data.name
    this.#report.left(who, code, reason)
    // By now the client is no longer in the map.
    this.#sendToAll({ type: 'left', who, tabs: this.#server.clients.size }, undefined)
  }

  #receive(client: Client, content: string | Buffer): void {
    const from = client.data.name
    if (!speaksEnvelopes(client)) {
      // The most useful answer for someone who tries the app with a tool for the command line.
      this.#report.message(from, 'app', content)
      client.send(content)
      return
    }
    const message = parseEnvelope(content)
    if (!message) {
      client.close(CloseCode.POLICY_VIOLATION, 'Not a message of the page')
      return
    }
    const { type, id, text } = message
    if (type === 'send') this.#acknowledge(client, id, text)
    else this.#passOn(client, id, text)
  }

  #acknowledge(client: Client, id: number, text: string): void {
    this.#report.message(client.data.name, 'app', text)
    client.send(formatEnvelope({ type: 'received', id }))
  }

  #passOn(client: Client, id: number, text: string): void {
    const from = client.data.name
    const others = this.#sendToAll({ type: 'message', from, text }, text, client)
    this.#report.message(from, `everyone (${others})`, text)
    client.send(formatEnvelope({ type: 'relayed', id, others }))
  }

  /** Each audience in its own language; returns how many it was sent to. */
  #sendToAll(envelope: ToPage, plainText: string | undefined, except?: Client): number {
    const send = (data: string, filter: (client: Client) => boolean): number =>
      this.#server.broadcast(data, { filter, ...(except && { except }) }).sent
    const pages = send(formatEnvelope(envelope), speaksEnvelopes)
    return plainText === undefined ? pages : pages + send(plainText, (client) => !speaksEnvelopes(client))
  }
}

function speaksEnvelopes(client: Client): boolean {
  return client.subprotocol === PAGE_SUBPROTOCOL
}
