import { defineConfig } from 'vitest/config'

/** One project per kind of test, so that `vitest run --project core` is quick. */
function project(name: string, include: string[], more: object = {}) {
  return { test: { name, include: include.map((path) => `test/${path}/**/*.test.ts`), ...more } }
}

export default defineConfig({
  test: {
    projects: [
      project('core', ['unit', 'property', 'conformance']),
      project('integration', ['integration'], { testTimeout: 20_000 }),
      project('compat', ['compat'], { testTimeout: 20_000, hookTimeout: 120_000 }),
      project('package', ['package'], { testTimeout: 120_000, hookTimeout: 120_000 }),
      project('examples', ['examples'], {
        globalSetup: 'test/support/examples.ts',
        testTimeout: 60_000,
        hookTimeout: 60_000,
        fileParallelism: false,
      }),
      // Behind the others: whether a process answers in time depends on what else the machine does.
      project('cluster', ['cluster'], {
        testTimeout: 60_000,
        hookTimeout: 60_000,
        fileParallelism: false,
        sequence: { groupOrder: 1 },
      }),
      project('browser', ['browser'], { testTimeout: 60_000, hookTimeout: 60_000, fileParallelism: false }),
    ],
    coverage: {
      provider: 'v8',
      // What has no I/O is covered to the last branch; the rest is measured by what it does on real sockets.
      include: [
        'src/constants.ts',
        'src/errors.ts',
        'src/disposal.ts',
        'src/masking.ts',
        'src/utf8.ts',
        'src/framing.ts',
        'src/headers.ts',
        'src/http-head.ts',
        'src/handshake.ts',
        'src/admission.ts',
        'src/probe.ts',
        'src/assembly.ts',
        'src/extension.ts',
        'src/deflate.ts',
        'src/inflation.ts',
        'src/pieces.ts',
        'src/text.ts',
        'src/outbox.ts',
        'src/sender.ts',
        'src/prepared.ts',
        'src/close-frame.ts',
        'src/protocol.ts',
        'src/topics.ts',
        'src/sequences.ts',
        'src/envelope.ts',
      ],
      thresholds: { lines: 100, branches: 100, functions: 100, statements: 100 },
    },
  },
})
