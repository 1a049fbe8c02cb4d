import { specify } from './spec/implementation.ts'
import { sendSpec } from './spec/send.ts'

specify(sendSpec)
