import { createInterface } from 'node:readline'

// npm passes on a Ctrl-C that the terminal has already sent to the whole process group: two signals, one key press.
const SAME_KEY_PRESS_MS = 300

/** The first SIGINT or SIGTERM stops politely, a second one (a person who does not want to wait) at once. */
export function onStopSignal(stop: () => Promise<void>): void {
  let stoppingSince: number | undefined
  const handle = (signal: 'SIGINT' | 'SIGTERM'): void => {
    if (stoppingSince === undefined) {
      stoppingSince = performance.now()
      stop().then(
        () => process.exit(0),
        () => process.exit(1),
      )
    } else if (performance.now() - stoppingSince > SAME_KEY_PRESS_MS) {
      process.exit(signal === 'SIGINT' ? 130 : 143)
    }
  }
  process.on('SIGINT', handle)
  process.on('SIGTERM', handle)
}

/** Calls back for each line that is not blank. The end of the input is not the end of the app. */
export function onLine(input: NodeJS.ReadableStream, take: (line: string) => void): void {
  input.on('error', () => {})
  // terminal: false leaves line editing and Ctrl-C to the terminal itself.
  createInterface({ input, terminal: false }).on('line', (line) => {
    if (line.trim() !== '') take(line)
  })
}
