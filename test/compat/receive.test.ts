import { specify } from './spec/implementation.ts'
import { receiveSpec } from './spec/receive.ts'

specify(receiveSpec)
