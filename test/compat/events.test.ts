import { eventSpec } from './spec/events.ts'
import { specify } from './spec/implementation.ts'

specify(eventSpec)
