import { flowSpec } from './spec/flow.ts'
import { specify } from './spec/implementation.ts'

specify(flowSpec)
