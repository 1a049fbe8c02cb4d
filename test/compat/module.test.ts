import { specify } from './spec/implementation.ts'
import { moduleSpec } from './spec/module.ts'

specify(moduleSpec)
