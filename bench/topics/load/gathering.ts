import { Client, forEach } from './client.ts'
import { dialects } from './dialects.ts'
import { join } from './lane.ts'
import type { Membership } from './requests.ts'
import { topicName } from './schedule.ts'

const WARM_UP = [topicName(9_999_999)]
/** By then connections have what they need for messages. */
const WARM_UPS = 5

/** Clients that join topics and do nothing else. */
export class Gathering {
  readonly #clients: Client[] = []

  /** Each of them has joined and left: what the first messages leave behind does not count. */
  async open(port: number, count: number, fail: (error: Error) => void): Promise<void> {
    await forEach(count, async (index) => {
      const client = await Client.open(port, dialects.plain.path, fail)
      this.#clients[index] = client
      for (let i = 0; i < WARM_UPS; i++) {
        await dialects.plain.change(client, '+', WARM_UP)
        await dialects.plain.change(client, '-', WARM_UP)
      }
    })
  }

  async join(membership: Membership, subscriptions: number): Promise<void> {
    const { length } = this.#clients
    const names = Array.from({ length: membership === 'one-topic' ? 1 : subscriptions }, (_, i) => topicName(i))
    if (membership === 'all-in-one-client') return join(this.#clients[0]!, dialects.plain, names)
    const each = names.length / length
    await forEach(length, (index) => {
      const mine = membership === 'spread' ? names.slice(index * each, (index + 1) * each) : names
      return join(this.#clients[index]!, dialects.plain, mine)
    })
  }

  close(): void {
    for (const client of this.#clients) client?.close()
  }
}
