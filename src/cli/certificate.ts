import { readFileSync } from 'node:fs'
import { createSecureContext } from 'node:tls'
import { ArgumentError } from './arguments.ts'

export interface Certificate {
  /** PEM */
  readonly cert: Buffer
  readonly key: Buffer
}

/** Reads both files, and tries them here, where an error can still name the options. */
export function readCertificate(files: { readonly cert: string; readonly key: string }): Certificate {
  const pair = { cert: readOption('--cert', files.cert), key: readOption('--key', files.key) }
  try {
    createSecureContext(pair)
  } catch (error) {
    throw new ArgumentError(`--cert and --key are not a certificate and its key (PEM): ${(error as Error).message}`)
  }
  return pair
}

function readOption(option: string, file: string): Buffer {
  try {
    return readFileSync(file)
  } catch (error) {
    throw new ArgumentError(`${option}: ${(error as Error).message}`)
  }
}
