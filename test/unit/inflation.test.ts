import { constants, deflateRawSync, type ZlibOptions } from 'node:zlib'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { DeflateWindow } from '../../src/deflate.ts'
import { ProtocolError } from '../../src/errors.ts'
import { MessageInflation } from '../../src/inflation.ts'
import { defer } from '../support/queue.ts'
import { seededRandom } from '../support/random.ts'

/** What zlib should fail with, once. */
const zlib = vi.hoisted(() => ({ failure: undefined as Error | undefined }))

vi.mock('node:zlib', async (importOriginal) => {
  const original = await importOriginal<typeof import('node:zlib')>()
  return {
    ...original,
    createInflateRaw(options: ZlibOptions) {
      const { failure } = zlib
      zlib.failure = undefined
      if (failure !== undefined) throw failure
      return original.createInflateRaw(options)
    },
  }
})

afterEach(() => expect(zlib.failure).toBeUndefined())

const KIB = 1_024

function deflated(payload: string | Uint8Array, options: ZlibOptions = {}): Buffer {
  return deflateRawSync(payload, { finishFlush: constants.Z_SYNC_FLUSH, ...options }).subarray(0, -4)
}

/** With a last block that says so (§7.2.3.4). */
function finished(payload: string | Uint8Array, options: ZlibOptions = {}): Buffer {
  return deflateRawSync(payload, options)
}

function noise(size: number): Buffer {
  const random = seededRandom(size)
  return Buffer.from(Array.from({ length: size }, () => random(256)))
}

function start({ maxBytes = Number.POSITIVE_INFINITY, window = new DeflateWindow(32_768) } = {}) {
  const output: Buffer[] = []
  const events: string[] = []
  const ended = defer<Buffer>()
  ended.promise.catch(() => {})
  const through: (() => void)[] = []
  const inflation = new MessageInflation(window, maxBytes, {
    onOutput: (bytes) => {
      output.push(Buffer.from(bytes))
      events.push('output')
    },
    onThrough: () => {
      events.push('through')
      for (const resolve of through.splice(0)) resolve()
    },
    onFinished: () => {
      events.push('finished')
      ended.resolve(Buffer.concat(output))
    },
    onError: (error) => {
      events.push('error')
      ended.reject(error)
    },
  })
  return {
    inflation,
    output,
    events,
    window,
    whole: ended.promise,
    isThrough: () => new Promise<void>((resolve) => through.push(resolve)),
  }
}

/** The payload in parts of this size, each when the one before is through. */
async function inflate(payload: Uint8Array, size: number, options: Parameters<typeof start>[0] = {}): Promise<Buffer> {
  const { inflation, whole, isThrough } = start(options)
  for (let at = 0; at < payload.length; at += size) {
    const waiting = Promise.race([isThrough(), whole])
    inflation.write(Buffer.from(payload.subarray(at, at + size)), false)
    await waiting
  }
  inflation.write(Buffer.alloc(0), true)
  return whole
}

describe('a message that is inflated while it arrives', () => {
  it('is the same in parts of any size', async () => {
    const message = Buffer.from('The same again and again, '.repeat(40))
    const payload = deflated(message)
    for (let size = 1; size <= payload.length; size++) expect((await inflate(payload, size)).equals(message)).toBe(true)
  })

  it('may be empty, also without any byte', async () => {
    for (const payload of [Buffer.of(0), Buffer.alloc(0), deflated('')])
      expect(await inflate(payload, 1)).toHaveLength(0)
  })

  it('is written to while something is under way: that is gathered, up to a limit', async () => {
    const message = noise(300_000)
    const payload = deflated(message)
    const { inflation, events, whole } = start()
    inflation.write(payload.subarray(0, 10), false)
    inflation.write(payload.subarray(10, 20), false)
    expect(inflation.full).toBe(false)
    inflation.write(payload.subarray(20, 65_545), false)
    expect(inflation.full).toBe(false)
    inflation.write(payload.subarray(65_545, 65_546), false)
    expect(inflation.full).toBe(true)
    inflation.write(payload.subarray(65_546), true)
    expect((await whole).equals(message)).toBe(true)
    // Once for all: whoever has written the last part waits for the end.
    expect(events.filter((event) => event === 'through')).toEqual([])
    const many = start()
    for (let count = 0; count < 64; count++) {
      expect(many.inflation.full).toBe(false)
      many.inflation.write(payload.subarray(count, count + 1), false)
    }
    many.inflation.write(payload.subarray(64, 65), false)
    expect(many.inflation.full).toBe(true)
    many.inflation.close()
  })

  it('refers to the window, and adds to it', async () => {
    const window = new DeflateWindow(32_768)
    const dictionary = noise(1_000)
    window.append(dictionary)
    expect((await inflate(deflated(dictionary, { dictionary }), 100, { window })).equals(dictionary)).toBe(true)
    expect(window.dictionary!.equals(Buffer.concat([dictionary, dictionary]))).toBe(true)
    await expect(inflate(deflated(dictionary, { dictionary }), 100)).rejects.toMatchObject({
      code: 'ERR_COMPRESSED_DATA',
    })
  })

  it('goes on behind a last block, in the same window', async () => {
    const [one, two] = [noise(70_000), noise(500)]
    const payload = Buffer.concat([
      finished(one),
      finished('two'),
      finished(''),
      deflated(two, { dictionary: Buffer.concat([one.subarray(-20_000), Buffer.from('two')]) }),
      Buffer.of(0x00, 0x00, 0xff, 0xff),
      finished('three'),
    ])
    const message = Buffer.concat([one, Buffer.from('two'), two, Buffer.from('three')])
    for (const size of [7, 1_000, payload.length]) expect((await inflate(payload, size)).equals(message)).toBe(true)
    // The last one may end on a byte that begins a part.
    const parts = Buffer.concat([finished('one'), Buffer.of(0)])
    for (let size = 1; size < parts.length; size++) expect((await inflate(parts, size)).toString()).toBe('one')
  })

  it('does so up to 255 times', async () => {
    const block = finished('x')
    const many = (count: number): Buffer => Buffer.concat(Array.from({ length: count }, () => block))
    expect((await inflate(many(256), 1_000)).toString()).toBe('x'.repeat(256))
    await expect(inflate(many(257), 1_000)).rejects.toMatchObject({ code: 'ERR_COMPRESSED_DATA' })
  })

  it('fails when it is cut short, wherever', async () => {
    const payload = deflated(Buffer.from('Huffman codes, and enough of them: 0123456789'.repeat(20)))
    for (let end = 1; end < payload.length; end++) {
      await expect(inflate(payload.subarray(0, end), 50)).rejects.toMatchObject({
        code: 'ERR_COMPRESSED_DATA',
        closeCode: 1007,
      })
    }
    // The ending fits into what is missing of a stored block, in part or as a whole.
    for (const missing of [1, 4, 5, 8, 10]) {
      const stored = Buffer.of(1, missing, 0, 255 - missing, 255)
      await expect(inflate(stored, 50)).rejects.toMatchObject({ code: 'ERR_COMPRESSED_DATA' })
    }
  })

  it('fails with what is no deflate data', async () => {
    const { inflation, whole, events } = start()
    inflation.write(Buffer.alloc(100, 0xff), false)
    await expect(whole).rejects.toBeInstanceOf(ProtocolError)
    await expect(whole).rejects.toHaveProperty('cause.code', 'Z_DATA_ERROR')
    expect(events).toEqual(['error'])
  })

  it('meets its limit, and does not exceed it', async () => {
    const payload = deflated(Buffer.alloc(200_000))
    expect(await inflate(payload, 50, { maxBytes: 200_000 })).toHaveLength(200_000)
    await expect(inflate(payload, 50, { maxBytes: 199_999 })).rejects.toMatchObject({
      code: 'ERR_MESSAGE_TOO_BIG',
      closeCode: 1009,
    })
  })

  it('stops where it is paused, and goes on where it is resumed', async () => {
    const size = 4 * KIB * KIB
    const { inflation, output, whole } = start()
    inflation.pause()
    inflation.write(deflated(Buffer.alloc(size)), true)
    await inflate(deflated(Buffer.alloc(size)), 1_000)
    expect(output).toEqual([])
    inflation.resume()
    while (output.length === 0) await new Promise((resolve) => setImmediate(resolve))
    inflation.pause()
    const before = output.length
    await inflate(deflated(Buffer.alloc(size)), 1_000)
    expect(output).toHaveLength(before)
    inflation.resume()
    expect((await whole).length).toBe(size)
  })

  it('says nothing any more when it is closed', async () => {
    const { inflation, events } = start()
    inflation.close()
    const other = start()
    other.inflation.write(deflated(Buffer.alloc(KIB * KIB)), true)
    while (other.events.length === 0) await new Promise((resolve) => setImmediate(resolve))
    other.inflation.close()
    const count = other.events.length
    await inflate(deflated(Buffer.alloc(KIB * KIB)), 100)
    expect(events).toEqual([])
    expect(other.events).toHaveLength(count)
  })

  it('nor when it is closed by whoever it tells, with more at hand', async () => {
    const first = Buffer.concat([deflated('one'), Buffer.of(0x00, 0x00, 0xff, 0xff)])
    for (const isWhole of [true, false]) {
      const { inflation, events, isThrough } = start()
      inflation.pause()
      if (!isWhole) {
        const through = isThrough()
        inflation.write(first, false)
        await through
      }
      const through = isThrough()
      inflation.write(deflated('two'), isWhole)
      // Behind it in the pool, if there is nothing to wait for.
      await (isWhole ? inflate(deflated(noise(100_000)), 1_000) : through)
      const told = new Promise<void>((resolve) => {
        const push = events.push.bind(events)
        events.push = (event) => {
          inflation.close()
          resolve()
          return push(event)
        }
      })
      inflation.resume()
      await told
      await inflate(deflated('three'), 100)
      expect(events.filter((event) => event !== 'through')).toEqual(['output'])
    }
  })

  it('zlib that cannot be had is not the peer’s fault', async () => {
    const failure = Object.assign(new Error('no memory'), { code: 'ERR_ZLIB_INITIALIZATION_FAILED' })
    zlib.failure = failure
    await expect(inflate(deflated('text'), 100)).rejects.toBe(failure)
    const { inflation, whole } = start()
    inflation.write(Buffer.concat([finished('one'), finished('two')]), true)
    zlib.failure = failure
    await expect(whole).rejects.toBe(failure)
  })
})
