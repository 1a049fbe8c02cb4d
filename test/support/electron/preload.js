// Stands in for the module `electron` in a preload script, and for what Electron does with the script: it runs before the page's
// own, and finds one module. A test puts `copyAcross` and the script in here; `__invoke` is a binding of its own.
;(() => {
  const copyAcross = COPY_ACROSS
  const listeners = new Map()
  const listenersOf = (channel) => listeners.get(channel) ?? []
  const ipcRenderer = {
    async invoke(channel, ...values) {
      const answer = await globalThis.__invoke(channel, structuredClone(values))
      if (answer.error !== undefined) throw new Error(answer.error)
      return answer.value
    },
    on: (channel, listener) => void listeners.set(channel, [...listenersOf(channel), listener]),
    off: (channel, listener) =>
      void listeners.set(
        channel,
        listenersOf(channel).filter((one) => one !== listener),
      ),
  }
  const contextBridge = {
    exposeInMainWorld(name, api) {
      Object.defineProperty(globalThis, name, { value: Object.freeze(copyAcross(api)), enumerable: true })
    },
  }
  globalThis.__receive = (channel, values) => {
    for (const listener of listenersOf(channel)) listener({}, ...values)
  }
  const require = (name) => {
    if (name === 'electron') return { contextBridge, ipcRenderer }
    throw new Error(`module not found: ${name}`)
  }
  const module = { exports: {} }
  PRELOAD(require, module, module.exports)
})()
