import { randomFillSync } from 'node:crypto'

const ID_BYTES = 16
const idPool = Buffer.allocUnsafeSlow(ID_BYTES * 256)
let idPoolAt = idPool.length

/** A fresh id for a connection: 128 random bits as 32 hexadecimal digits. */
export function randomId(): string {
  if (idPoolAt === idPool.length) {
    randomFillSync(idPool)
    idPoolAt = 0
  }
  idPoolAt += ID_BYTES
  return idPool.toString('hex', idPoolAt - ID_BYTES, idPoolAt)
}
