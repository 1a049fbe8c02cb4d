import { endingsSpec } from './spec/endings.ts'
import { specify } from './spec/implementation.ts'

specify(endingsSpec)
