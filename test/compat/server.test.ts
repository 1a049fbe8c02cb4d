import { specify } from './spec/implementation.ts'
import { serverSpec } from './spec/server.ts'

specify(serverSpec)
