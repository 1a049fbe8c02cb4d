import { readdirSync, realpathSync, type Stats, statSync } from 'node:fs'
import { dirname, join, relative, sep } from 'node:path'
import { fileURLToPath } from 'node:url'
import { UsageError } from '../../errors.ts'

/** Folders whose files are not the project's own, beside those whose name begins with a dot. */
const FOREIGN_FOLDER = 'node_modules'

/** What a name may stand for, in this order. */
const ENDINGS = ['', '.js', '.cjs', '.mjs', '.json', '/index.js']

/** What there is below a folder. */
export interface FolderContents {
  /** All folders, the root first. */
  readonly folders: readonly string[]
  /** The files whose name ends as asked for, links not followed. */
  readonly files: readonly string[]
}

/** The root of a runtime: names become files here, and none of them lies outside. */
export class Folder {
  /** Its path, without links in it. */
  readonly root: string

  /** @throws UsageError `ERR_OPTION` when there is no such folder. */
  constructor(root: string | URL) {
    if (typeof root !== 'string' && !(root instanceof URL)) {
      throw new UsageError('ERR_OPTION', 'the option root must be the path of a folder')
    }
    const path = typeof root === 'string' ? root : fileURLToPath(root)
    if (statOf(path)?.isDirectory() !== true) throw new UsageError('ERR_OPTION', `the root ${path} is no folder`)
    this.root = realpathSync(path)
  }

  /**
   * The file that a name stands for, without links in its path; undefined when there is none. `./x` and `../x` are meant
   * from the file `from`, all others from the root.
   *
   * @throws UsageError `ERR_OPTION` for a name that leads out of the root, by its dots or by a link.
   */
  find(name: string, from?: string): string | undefined {
    if (typeof name !== 'string' || name === '' || name.includes('\\') || name.includes('\0')) {
      throw new UsageError('ERR_OPTION', `${JSON.stringify(name)} is not the name of a module`)
    }
    const isRelative = /^\.\.?(\/|$)/.test(name)
    const path = join(isRelative && from !== undefined ? dirname(from) : this.root, name)
    if (!this.#holds(path)) throw new UsageError('ERR_OPTION', `${name} leads out of ${this.root}`)
    const found = ENDINGS.map((ending) => path + ending).find((file) => statOf(file)?.isFile() === true)
    return found === undefined ? undefined : this.realFile(found)
  }

  /** A file below the root, without links in its path. Throws `UsageError` when a link leads out. */
  realFile(path: string): string {
    const real = realpathSync(path)
    if (this.#holds(real)) return real
    throw new UsageError('ERR_OPTION', `${this.describe(path)} is a link that leads out of ${this.root}`)
  }

  /** A path as messages have it: from the root, with slashes. */
  describe(path: string): string {
    return relative(this.root, path).replaceAll(sep, '/')
  }

  /** Looks through everything below the root, but for `node_modules`, hidden folders, and links to folders. */
  list(ending: string): FolderContents {
    const folders = [this.root]
    const files: string[] = []
    // It grows on the way.
    for (const folder of folders) {
      for (const entry of readFolder(folder, folder === this.root)) {
        const path = join(folder, entry.name)
        if (entry.isDirectory()) {
          if (!entry.name.startsWith('.') && entry.name !== FOREIGN_FOLDER) folders.push(path)
        } else if (entry.name.endsWith(ending)) files.push(path)
      }
    }
    return { folders, files: files.sort() }
  }

  #holds(path: string): boolean {
    return path.startsWith(this.root.endsWith(sep) ? this.root : this.root + sep)
  }
}

/** What the system says of a path; undefined when there is nothing, or no way to it. */
export function statOf(path: string): Stats | undefined {
  try {
    return statSync(path)
  } catch {
    return undefined
  }
}

/** The entries of a folder; none when it has gone since it was listed. */
function readFolder(path: string, isRoot: boolean) {
  try {
    return readdirSync(path, { withFileTypes: true })
  } catch (error) {
    if (!isRoot && (error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
}
