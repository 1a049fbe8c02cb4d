/**
 * A client for a fuzzing server of the Autobahn suite (`wstest -m fuzzingserver`), with its limits wide open:
 *
 *     node --import tsx test/conformance/echo-client.ts ws://127.0.0.1:9001
 *
 * Runs all cases, has the server write its report, and ends.
 */
import { type ConnectOptions, connect } from '../../src/index.ts'

const AGENT = 'fullduplex'

const LIMITS: ConnectOptions = {
  maxMessageBytes: 128 * 1024 * 1024,
  maxBufferedBytes: 512 * 1024 * 1024,
  maxFragments: 1_000_000,
  // The suite takes note of every ping, and of those that it has not asked for too.
  pingIntervalMs: 0,
}

/** Connects, hands messages to `message`, and resolves when the connection has ended. */
function converse(path: string, message: NonNullable<ConnectOptions['message']>): Promise<void> {
  return new Promise((close, reject) => {
    // What breaks the protocol is meant to be there: the suite sees in our Close frame that it was found.
    const handlers: ConnectOptions = { message, close: () => close(), error: () => {} }
    connect(new URL(path, url), { ...LIMITS, ...handlers }).catch(reject)
  })
}

async function readCaseCount(): Promise<number> {
  let count = 0
  await converse('/getCaseCount', (_, data) => {
    count = Number(data)
  })
  return count
}

const url = process.argv[2] ?? 'ws://127.0.0.1:9001'
const count = await readCaseCount()
for (let number = 1; number <= count; number++) {
  process.stdout.write(`\rcase ${number} of ${count}`)
  await converse(`/runCase?case=${number}&agent=${AGENT}`, (connection, data) => void connection.send(data))
}
await converse(`/updateReports?agent=${AGENT}`, () => {})
console.log('\nthe report is written')
