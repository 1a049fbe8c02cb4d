import { closeSpec } from './spec/close.ts'
import { specify } from './spec/implementation.ts'

specify(closeSpec)
