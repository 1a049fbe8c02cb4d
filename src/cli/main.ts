#!/usr/bin/env node
import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { WebSocketError } from '../index.ts'
import { formatAddress, isReachableFromOutside } from './address.ts'
import { ArgumentError, HELP, parseArguments, type ServeOptions } from './arguments.ts'
import { readCertificate } from './certificate.ts'
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

async function serve(options: ServeOptions): Promise<void> {
  const { ports, host, token = randomBytes(24).toString('base64url'), tlsFiles } = options
  const tls = tlsFiles && readCertificate(tlsFiles)
  const report = new Report(process.stdout)
  const relay = new Relay({ possiblePorts: ports, token, host, tls }, report)
  const port = await relay.listen()

  // Before the address is out: who waits for that line may stop us right after it.
  onStopSignal(() => {
    report.hint('Stopping: the clients are told. Ctrl-C again stops at once.')
    return relay.close()
  })
  report.ready(formatAddress({ port, host, token, certificate: tls?.cert }))
  if (isReachableFromOutside(host)) {
    const risk = tls ? '' : ', and nothing is encrypted without --cert and --key'
    report.hint(`Other computers can reach this address${risk}.`)
  }
  if (process.stdin.isTTY) report.hint('Type a line and press Enter to send it to every tab. Ctrl-C stops.')
  onLine(process.stdin, (line) => relay.say(line))
}

function readVersion(): string {
  const { version } = JSON.parse(readFileSync(PACKAGE_FILE, 'utf8')) as { version: string }
  return version
}

main(process.argv.slice(2)).catch((error: unknown) => {
  const wrongCall = error instanceof ArgumentError
  const portsTaken = error instanceof WebSocketError && error.code === 'ERR_PORTS_TAKEN'
  const advice = wrongCall ? '\nfullduplex --help shows the options.' : portsTaken ? '; choose others with --ports' : ''
  process.stderr.write(`fullduplex: ${error instanceof Error ? error.message : String(error)}${advice}\n`)
  process.exitCode = wrongCall ? 2 : 1
})
