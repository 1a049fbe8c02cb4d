import { specify } from './spec/implementation.ts'
import { sendSpec } from './spec/send.ts'
import { sendStateSpec } from './spec/send-state.ts'

specify(sendSpec, sendStateSpec)
