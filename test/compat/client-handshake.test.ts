import { clientHandshakeSpec } from './spec/client-handshake.ts'
import { specify } from './spec/implementation.ts'
import { redirectSpec } from './spec/redirects.ts'

specify(clientHandshakeSpec, redirectSpec)
