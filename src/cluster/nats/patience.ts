/** Waits for something to be done or to fail, but not for longer than this, in milliseconds. */
export async function within(timeMs: number, done: Promise<unknown>): Promise<void> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, timeMs)
  })
  await Promise.race([done.catch(() => {}), late])
  clearTimeout(timer)
}
