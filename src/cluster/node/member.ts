import type { Backplane, BackplaneHost } from '../../backplane.ts'
import { UsageError } from '../../errors.ts'
import { Link, type LinkListener, type LinkOptions } from './link.ts'
import { MemberLog } from './member-log.ts'
import { decodePayload, type ExchangeItem } from './wire.ts'

/** The backplane of one server or publisher: a member of an exchange. */
export class Member implements Backplane {
  readonly log: MemberLog
  readonly #link: Link
  #host: BackplaneHost | undefined

  constructor(options: LinkOptions) {
    const listener: LinkListener = {
      up: () => {
        this.log.rejoined()
        this.#host!.up()
      },
      down: (error) => this.#host!.down(error),
      take: (item) => this.#take(item),
    }
    this.#link = new Link(options, listener)
    this.log = new MemberLog(this.#link)
  }

  start(host: BackplaneHost): void {
    if (this.#host !== undefined) {
      throw new UsageError('ERR_OPTION', 'a backplane is for one server or publisher; make another one')
    }
    this.#host = host
    this.#link.start()
  }

  publish(channel: string, message: Uint8Array): Promise<void> {
    const payload = this.#link.encode(message)
    return this.#link.send(['publish', channel, payload], channel.length + payload.length)
  }

  async subscribe(channels: readonly string[]): Promise<void> {
    await this.#link.ask(
      (request) => ['subscribe', request, channels],
      () => {
        for (const channel of channels) this.#link.channels.add(channel)
      },
    )
  }

  async unsubscribe(channels: readonly string[]): Promise<void> {
    await this.#link.ask(
      (request) => ['unsubscribe', request, channels],
      () => {
        for (const channel of channels) this.#link.channels.delete(channel)
      },
    )
  }

  async close(): Promise<void> {
    this.log.close()
    await this.#link.close()
  }

  #take(item: ExchangeItem): void {
    if (item[0] === 'message') this.#host!.receive(item[1], decodePayload(item[2]))
    else if (item[0] === 'entry') this.log.entry(item[1], item[2], item[3])
    else if (item[0] === 'lost') {
      // The way is there, but what came by it was not everything: whoever hears of outages hears of this.
      this.#host!.down(new Error(`${item[1]} messages were dropped, because this process did not read them in time`))
      this.log.missed()
      this.#host!.up()
    }
  }
}
