import type { LogPage } from '../history.ts'

/** Pages of logs that are on their way: clients that come back at the same time want the same ones, and share them. */
export class PageReads {
  readonly #read: (topic: string, after: number) => Promise<LogPage>
  readonly #pages = new Map<string, Promise<LogPage>>()

  constructor(read: (topic: string, after: number) => Promise<LogPage>) {
    this.#read = read
  }

  /** The page behind this sequence number. */
  read(topic: string, after: number): Promise<LogPage> {
    const key = `${after} ${topic}`
    let page = this.#pages.get(key)
    if (page === undefined) {
      page = this.#read(topic, after).finally(() => this.#pages.delete(key))
      this.#pages.set(key, page)
    }
    return page
  }
}
