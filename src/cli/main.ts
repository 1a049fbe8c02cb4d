#!/usr/bin/env node
import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { formatAddress, isReachableFromOutside } from './address.ts'
import { ArgumentError, HELP, parseArguments, type ServeOptions } from './arguments.ts'
import { Relay } from './relay.ts'
import { Report } from './report.ts'
import { onLine, onStopSignal } from './terminal.ts'

const PACKAGE_FILE = new URL('../../package.json', import.meta.url)

async function main(args: readonly string[]): Promise<void> {
  const command = parseArguments(args)
  if (command.action === 'help') return void process.stdout.write(HELP)
  if (command.action === 'version') return void process.stdout.write(`${readVersion()}\n`)
  await serve(command.options)
}

async function serve({
  ports,
  host,
  token = randomBytes(24).toString('base64url'),
  tlsFiles,
}: ServeOptions): Promise<void> {
  const tls = tlsFiles && { cert: readPem('--cert', tlsFiles.cert), key: readPem('--key', tlsFiles.key) }
  const report = new Report(process.stdout)
  const relay = new Relay(
    { possiblePorts: ports, token, ...(host !== undefined && { host }), ...(tls && { tls }) },
    report,
  )
  const port = await relay.listen()

  report.ready(formatAddress({ port, host, token, certificate: tls?.cert }))
  if (isReachableFromOutside(host)) {
    report.hint(
      `Other computers can reach this address${tls ? '' : ', and nothing is encrypted without --cert and --key'}.`,
    )
  }
  if (process.stdin.isTTY) report.hint('Type a line and press Enter to send it to every tab. Ctrl-C stops.')
  onLine(process.stdin, (line) => relay.say(line))
  onStopSignal(() => {
    report.hint('Stopping: the clients are told. Ctrl-C again stops at once.')
    return relay.close()
  })
}

function readPem(option: string, file: string): Buffer {
  try {
    return readFileSync(file)
  } catch (error) {
    throw new ArgumentError(`${option}: ${(error as Error).message}`)
  }
}

function readVersion(): string {
  const { version } = JSON.parse(readFileSync(PACKAGE_FILE, 'utf8')) as { version: string }
  return version
}

main(process.argv.slice(2)).catch((error: unknown) => {
  const message = error instanceof Error ? error.message : String(error)
  const wrongCall = error instanceof ArgumentError
  process.stderr.write(`fullduplex: ${message}\n${wrongCall ? 'fullduplex --help shows the options.\n' : ''}`)
  process.exitCode = wrongCall ? 2 : 1
})
