import { admissionSpec } from './spec/admission.ts'
import { specify } from './spec/implementation.ts'
import { refusalSpec } from './spec/refusals.ts'

specify(refusalSpec, admissionSpec)
