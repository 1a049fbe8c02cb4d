import { Duplex, type DuplexOptions } from 'node:stream'
import type { RawData } from './options.ts'
import type { WebSocket } from './websocket.ts'

/**
 * A stream over a WebSocket: what is written is sent, a message per chunk; what is received is read. Backpressure goes
 * both ways. The stream ends and fails with the WebSocket, and the other way round.
 */
export function createWebSocketStream(websocket: WebSocket, options?: DuplexOptions): Duplex {
  // Whether the WebSocket goes with the stream: not when it was the WebSocket that failed, and has to say goodbye.
  let terminates = true
  const stream = new Duplex({
    ...options,
    ...{ autoDestroy: false, emitClose: false, objectMode: false, writableObjectMode: false },
  })

  websocket.on('message', (data: RawData, isBinary: boolean) => {
    const chunk = !isBinary && stream.readableObjectMode ? String(data) : data
    if (!stream.push(chunk)) websocket.pause()
  })
  websocket.once('error', (error) => {
    if (stream.destroyed) return
    terminates = false
    stream.destroy(error)
  })
  websocket.once('close', () => {
    if (!stream.destroyed) stream.push(null)
  })

  stream._destroy = (error, callback) => {
    if (websocket.readyState === websocket.CLOSED) {
      callback(error)
      process.nextTick(() => stream.emit('close'))
      return
    }
    let told = false
    websocket.once('error', (failure) => {
      told = true
      callback(failure)
    })
    websocket.once('close', () => {
      if (!told) callback(error)
      process.nextTick(() => stream.emit('close'))
    })
    if (terminates) websocket.terminate()
  }

  stream._final = (callback) => {
    if (websocket.readyState === websocket.CONNECTING) {
      websocket.once('open', () => stream._final(callback))
      return
    }
    const socket = websocket._socket
    // The handshake has failed: the stream is destroyed by that.
    if (socket === null) return
    if (socket.writableFinished) {
      callback()
      if (stream.readableEnded) stream.destroy()
      return
    }
    // Everything is out when the socket is at its end, not when the Close frame is under way.
    socket.once('finish', () => callback())
    websocket.close()
  }

  stream._read = () => {
    if (websocket.isPaused) websocket.resume()
  }

  stream._write = (chunk, _encoding, callback) => {
    if (websocket.readyState === websocket.CONNECTING) {
      websocket.once('open', () => stream._write(chunk, _encoding, callback))
    } else websocket.send(chunk, callback as (error?: Error) => void)
  }

  stream.on('end', () => {
    if (!stream.destroyed && stream.writableFinished) stream.destroy()
  })
  stream.on('error', onError)
  return stream

  /** An error that nobody else wants to hear of is thrown, as it would be without us. */
  function onError(error: Error): void {
    stream.removeListener('error', onError)
    stream.destroy()
    if (stream.listenerCount('error') === 0) stream.emit('error', error)
  }
}
