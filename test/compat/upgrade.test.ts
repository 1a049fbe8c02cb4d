import { specify } from './spec/implementation.ts'
import { socketSpec } from './spec/socket.ts'
import { upgradeSpec } from './spec/upgrade.ts'

specify(upgradeSpec, socketSpec)
