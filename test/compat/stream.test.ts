import { specify } from './spec/implementation.ts'
import { streamSpec } from './spec/stream.ts'

specify(streamSpec)
