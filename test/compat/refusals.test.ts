import { specify } from './spec/implementation.ts'
import { refusalSpec } from './spec/refusals.ts'

specify(refusalSpec)
