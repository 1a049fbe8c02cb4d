/**
 * A client for a fuzzing server of the Autobahn suite (`wstest -m fuzzingserver`), with its limits wide open:
 *
 *     node --import tsx test/conformance/echo-client.ts ws://127.0.0.1:9001
 *
 * Runs all cases, has the server write its report, and ends. Compression is offered in the groups that are about it.
 */
import type { CompressionOptions } from '../../src/extension.ts'
import { type ConnectOptions, connect } from '../../src/index.ts'

const AGENT = 'fullduplex'

const LIMITS: ConnectOptions = {
  maxMessageBytes: 128 * 1024 * 1024,
  maxBufferedBytes: 512 * 1024 * 1024,
  maxFragments: 1_000_000,
  // The suite takes note of every ping, and of those that it has not asked for too.
  pingIntervalMs: 0,
}

/** What the suite demands of an offer before it accepts one in these groups: that it may tell the client to forget. */
const FORGETFUL = /^13\.[2567]\./

/** What is offered in a case: everything that is compressed shows whether it is right. */
function compressionFor(id: string): CompressionOptions | undefined {
  if (!/^1[23]\./.test(id)) return undefined
  return { threshold: 0, serverNoContextTakeover: false, clientNoContextTakeover: FORGETFUL.test(id) }
}

/** Connects, hands messages to `message`, and resolves when the connection has ended. */
function converse(
  path: string,
  message: NonNullable<ConnectOptions['message']>,
  options: ConnectOptions = {},
): Promise<void> {
  return new Promise((close, reject) => {
    // What breaks the protocol is meant to be there: the suite sees in our Close frame that it was found.
    const handlers: ConnectOptions = { message, close: () => close(), error: () => {} }
    connect(new URL(path, url), { ...LIMITS, ...handlers, ...options }).catch(reject)
  })
}

/** The one message that the server has to say at a path, which is JSON. */
async function ask(path: string): Promise<unknown> {
  let answer: unknown
  await converse(path, (_, data) => {
    answer = JSON.parse(String(data))
  })
  return answer
}

const url = process.argv[2] ?? 'ws://127.0.0.1:9001'
const count = Number(await ask('/getCaseCount'))
for (let number = 1; number <= count; number++) {
  process.stdout.write(`\rcase ${number} of ${count}`)
  const { id } = (await ask(`/getCaseInfo?case=${number}`)) as { readonly id: string }
  const compression = compressionFor(id)
  const options: object = compression === undefined ? {} : { compression }
  const echo: NonNullable<ConnectOptions['message']> = (connection, data) => void connection.send(data)
  await converse(`/runCase?case=${number}&agent=${AGENT}`, echo, options)
}
await converse(`/updateReports?agent=${AGENT}`, () => {})
console.log('\nthe report is written')
