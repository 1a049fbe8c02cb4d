import { it } from 'vitest'
import { isUtf8 } from 'node:buffer'
import { Endpoint } from '../support/protocol-host.ts'
import { copyOf } from '../support/chunks.ts'
import { seedOf } from '../support/random.ts'
import { text } from '../support/wire.ts'
import { advanceUtf8 } from '../../src/utf8.ts'
it('x', () => {
  const p = Buffer.from(Array.from({length:64},(_,i)=>0x80+i))
  for (let seed=0; seed<2000; seed++) {
  const e = new Endpoint('server', {}, seed===0?seedOf('6.12.8'):seed)
  const wire = copyOf(e.encode(text(p)))
  const orig = Buffer.from(wire)
  e.protocol.receive(wire)
  if (e.host.violations.length===0) { console.log(seed, orig.toString('hex'), wire.toString('hex'), e.host.messages, isUtf8(wire.subarray(6)), advanceUtf8(0,wire,6,70)); break }
  }
})
