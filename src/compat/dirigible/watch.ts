import { type FSWatcher, watch } from 'node:fs'
import { join, sep } from 'node:path'
import type { Folder } from './folder.ts'

/** Silence after which changes are told: editors write a file in several steps. */
const QUIET_MS = 50
/** Changes that never pause are told after this time. */
const LONGEST_MS = 1_000

/**
 * Watches everything below a root, folder by folder: the recursive watching of Node is not the same on all systems, and
 * would look into `node_modules` as well.
 */
export class FolderWatch {
  readonly #folder: Folder
  readonly #changed: () => void
  readonly #watchers = new Map<string, FSWatcher>()
  #timer: NodeJS.Timeout | undefined
  #sinceMs: number | undefined

  /** Throws what the system says when it cannot watch. */
  constructor(folder: Folder, changed: () => void) {
    this.#folder = folder
    this.#changed = changed
    try {
      this.update()
    } catch (error) {
      this.close()
      throw error
    }
  }

  /** Watches the folders that are there now. One that was made in between is found with the next change at the latest. */
  update(): void {
    // A folder that comes while they are listed is in the list of another round, which its watched parent causes.
    const { folders } = this.#folder.list('')
    for (const path of folders) if (!this.#watchers.has(path)) this.#watch(path)
    for (const path of this.#watchers.keys()) if (!folders.includes(path)) this.#unwatch(path)
  }

  /** Nothing is told any more. */
  close(): void {
    clearTimeout(this.#timer)
    for (const path of this.#watchers.keys()) this.#unwatch(path)
  }

  #watch(path: string): void {
    let watcher: FSWatcher
    try {
      watcher = watch(path, { persistent: false }, (kind, name) => {
        // A folder that is made anew under its old name is another, which nobody watches yet.
        if (kind === 'rename') this.#unwatchBelow(name === null ? path : join(path, name))
        this.#note()
      })
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return
      throw error
    }
    // The folder is gone, or the system has given up on it.
    watcher.on('error', () => {
      this.#unwatch(path)
      this.#note()
    })
    this.#watchers.set(path, watcher)
  }

  #unwatch(path: string): void {
    this.#watchers.get(path)?.close()
    this.#watchers.delete(path)
  }

  #unwatchBelow(path: string): void {
    for (const watched of this.#watchers.keys()) {
      if (watched === path || watched.startsWith(path + sep)) this.#unwatch(watched)
    }
  }

  #note(): void {
    const nowMs = performance.now()
    this.#sinceMs ??= nowMs
    clearTimeout(this.#timer)
    const waitMs = Math.min(QUIET_MS, Math.max(0, this.#sinceMs + LONGEST_MS - nowMs))
    this.#timer = setTimeout(() => {
      this.#sinceMs = undefined
      this.#changed()
    }, waitMs).unref()
  }
}
