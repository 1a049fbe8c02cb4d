import { clientConnectionSpec } from './spec/client-connection.ts'
import { clientOptionsSpec } from './spec/client-options.ts'
import { specify } from './spec/implementation.ts'

specify(clientOptionsSpec, clientConnectionSpec)
