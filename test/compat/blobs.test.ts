import { blobsSpec } from './spec/blobs.ts'
import { specify } from './spec/implementation.ts'

specify(blobsSpec)
