import { deflateSpec } from './spec/deflate.ts'
import { negotiationSpec } from './spec/deflate-negotiation.ts'
import { specify } from './spec/implementation.ts'

specify(negotiationSpec, deflateSpec)
