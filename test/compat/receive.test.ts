import { specify } from './spec/implementation.ts'
import { limitSpec } from './spec/limits.ts'
import { receiveSpec } from './spec/receive.ts'
import { violationSpec } from './spec/violations.ts'

specify(receiveSpec, violationSpec, limitSpec)
