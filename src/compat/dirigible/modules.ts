import { readFileSync } from 'node:fs'
import { createRequire, isBuiltin } from 'node:module'
import { dirname, join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { compileFunction, constants } from 'node:vm'
import { UsageError } from '../../errors.ts'
import { runInside } from './call.ts'
import { type Folder, statOf } from './folder.ts'
import { canonicalName } from './names.ts'

/** What a CommonJS module knows as `module`. */
interface FolderModule {
  readonly id: string
  readonly filename: string
  exports: unknown
  loaded: boolean
}

type Require = (name: string) => unknown
type Body = (exports: unknown, require: Require, module: FolderModule, filename: string, dirname: string) => void

/** A module that has run, or is running. */
interface Loaded {
  readonly module: FolderModule
  readonly stamp: string
  /** Files of the modules that it has required. */
  readonly requires: Set<string>
}

/** An ES module, which Node loads; each version of its file under an address of its own. */
interface Imported {
  stamp: string
  version: number
}

/** What V8 says of a CommonJS module that is an ES module. */
const ES_MODULE_ERRORS = [
  'Cannot use import statement outside a module',
  "Unexpected token 'export'",
  "Cannot use 'import.meta' outside a module",
]

/**
 * The modules of a folder: CommonJS with a cache of its own, so that they can be loaded again, and with the modules of
 * the runtime under their names. A file with `import` or `export` in it is an ES module and left to Node.
 */
export class Modules {
  readonly #runtime: object
  readonly #folder: Folder
  /** What `require` gives for names that are no files, by their canonical names. */
  readonly #provided: ReadonlyMap<string, object>
  readonly #packages: NodeJS.Require
  readonly #loaded = new Map<string, Loaded>()
  readonly #imported = new Map<string, Imported>()
  readonly #bodies = new Map<string, { readonly stamp: string; readonly body: Body }>()

  constructor(runtime: object, folder: Folder, provided: ReadonlyMap<string, object>) {
    this.#runtime = runtime
    this.#folder = folder
    this.#provided = provided
    this.#packages = createRequire(join(folder.root, 'index.js'))
  }

  /**
   * What a module exports: of the runtime, of Node, of the folder, or of a package that is installed there or above.
   *
   * @throws UsageError `ERR_OPTION` when there is none, when it lies outside of the folder, or is an ES module.
   */
  require(name: string, from?: string): unknown {
    const provided = this.#providedAs(name)
    if (provided !== undefined) return provided
    if (typeof name === 'string' && isBuiltin(name)) return this.#packages(name)
    const file = this.#folder.find(name, from)
    if (file === undefined) return this.#requirePackage(name, from)
    if (this.#isEsModule(file)) {
      const path = this.#folder.describe(file)
      throw new UsageError('ERR_OPTION', `${path} is an ES module: use import() for it instead of require()`)
    }
    return runInside(this.#runtime, () => this.#load(file, from))
  }

  /**
   * What a module of the folder exports; of an ES module the promise of its namespace.
   *
   * @throws UsageError `ERR_OPTION` when there is none in the folder.
   */
  load(name: string, from?: string): unknown {
    const file = this.#folder.find(name, from)
    if (file === undefined) throw this.#missing(name)
    return this.#isEsModule(file) ? this.#import(file) : runInside(this.#runtime, () => this.#load(file, from))
  }

  /** Runs a CommonJS module of the folder as if it had never run, and gives what it exports. Those it requires are kept. */
  runAnew(file: string): unknown {
    const { module, body } = this.#prepare(file)
    runInside(this.#runtime, () => this.#run(module, body))
    return module.exports
  }

  /** Throws what speaks against running this file as a CommonJS module. */
  checkCommonJs(file: string): void {
    if (this.#isEsModule(file)) {
      throw new UsageError('ERR_OPTION', `${this.#folder.describe(file)} is an ES module; a CommonJS module is needed`)
    }
    if (file.endsWith('.json')) throw new UsageError('ERR_OPTION', `${this.#folder.describe(file)} is no module`)
    this.#bodyOf(file)
  }

  /** Forgets the modules whose files have changed, and all that have required them. */
  dropChanged(): void {
    const stale = new Set(
      [...this.#loaded].filter(([file, { stamp }]) => stamp !== stampOf(file)).map(([file]) => file),
    )
    // A set that grows is gone through to its end.
    for (const changed of stale) {
      for (const [file, { requires }] of this.#loaded) if (requires.has(changed)) stale.add(file)
    }
    for (const file of stale) this.#loaded.delete(file)
    for (const [file, imported] of this.#imported) {
      const stamp = stampOf(file)
      if (stamp === imported.stamp) continue
      imported.stamp = stamp
      imported.version++
    }
  }

  #providedAs(name: string): object | undefined {
    return typeof name === 'string' ? this.#provided.get(canonicalName(name)) : undefined
  }

  #requirePackage(name: string, from: string | undefined): unknown {
    const by = from === undefined ? '' : `, which ${this.#folder.describe(from)} requires`
    if (/^\.{0,2}\//.test(name)) throw this.#missing(name, by)
    try {
      this.#packages.resolve(name)
    } catch (cause) {
      throw this.#missing(name, by, cause)
    }
    return this.#packages(name)
  }

  #missing(name: string, by = '', cause?: unknown): UsageError {
    const message = `there is no module ${name} in ${this.#folder.root}${by}`
    return new UsageError('ERR_OPTION', message, cause === undefined ? undefined : { cause })
  }

  /** A CommonJS module, run if it has not been yet. One that is running already is given as far as it is. */
  #load(file: string, from: string | undefined): unknown {
    if (from !== undefined) this.#loaded.get(from)?.requires.add(file)
    const known = this.#loaded.get(file)
    if (known !== undefined) return known.module.exports
    if (file.endsWith('.json')) return this.#loadJson(file)
    const { module, stamp, body } = this.#prepare(file)
    this.#loaded.set(file, { module, stamp, requires: new Set() })
    try {
      this.#run(module, body)
    } catch (error) {
      this.#loaded.delete(file)
      throw error
    }
    return module.exports
  }

  #loadJson(file: string): unknown {
    const stamp = stampOf(file)
    const module: FolderModule = { id: file, filename: file, exports: undefined, loaded: true }
    try {
      module.exports = JSON.parse(readText(file))
    } catch (cause) {
      const { message } = cause as Error
      throw new UsageError('ERR_OPTION', `${this.#folder.describe(file)} is not JSON: ${message}`, { cause })
    }
    this.#loaded.set(file, { module, stamp, requires: new Set() })
    return module.exports
  }

  #prepare(file: string): { module: FolderModule; stamp: string; body: Body } {
    return { module: { id: file, filename: file, exports: {}, loaded: false }, ...this.#bodyOf(file) }
  }

  #run(module: FolderModule, body: Body): void {
    const { filename } = module
    const require: Require = (name) => this.require(name, filename)
    body.call(module.exports, module.exports, require, module, filename, dirname(filename))
    module.loaded = true
  }

  /** The code of a module, compiled; again when its file has changed. */
  #bodyOf(file: string): { readonly stamp: string; readonly body: Body } {
    const stamp = stampOf(file)
    const known = this.#bodies.get(file)
    if (known?.stamp === stamp) return known
    // What Node does with `import()` in a module of its own is right in these, too.
    const importModuleDynamically = constants.USE_MAIN_CONTEXT_DEFAULT_LOADER
    const parameters = ['exports', 'require', 'module', '__filename', '__dirname']
    const options = { filename: file, importModuleDynamically }
    const compiled = { stamp, body: compileFunction(readText(file), parameters, options) as Body }
    this.#bodies.set(file, compiled)
    return compiled
  }

  #isEsModule(file: string): boolean {
    if (file.endsWith('.mjs')) return true
    if (!file.endsWith('.js')) return false
    // What runs already is none, even if its file is another by now.
    if (this.#loaded.has(file)) return false
    try {
      this.#bodyOf(file)
      return false
    } catch (error) {
      return error instanceof SyntaxError && ES_MODULE_ERRORS.some((message) => error.message.startsWith(message))
    }
  }

  async #import(file: string): Promise<unknown> {
    const imported = this.#imported.get(file) ?? { stamp: stampOf(file), version: 0 }
    this.#imported.set(file, imported)
    const url = pathToFileURL(file)
    if (imported.version > 0) url.searchParams.set('version', String(imported.version))
    return runInside(this.#runtime, () => import(url.href))
  }
}

/** What is another when a file has been written. */
function stampOf(file: string): string {
  const stats = statOf(file)
  return stats === undefined ? 'gone' : `${stats.mtimeMs} ${stats.size} ${stats.ino}`
}

/** The text of a file, without a byte order mark, and without the line that makes a program of it. */
function readText(file: string): string {
  return readFileSync(file, 'utf8')
    .replace(/^\uFEFF/, '')
    .replace(/^#![^\n]*/, '')
}
