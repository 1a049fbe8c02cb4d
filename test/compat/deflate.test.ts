import { deflateSpec } from './spec/deflate.ts'
import { specify } from './spec/implementation.ts'

specify(deflateSpec)
