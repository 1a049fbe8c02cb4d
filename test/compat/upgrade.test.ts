import { specify } from './spec/implementation.ts'
import { upgradeSpec } from './spec/upgrade.ts'

specify(upgradeSpec)
