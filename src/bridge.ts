export {
  type ElectronCall,
  type ElectronIpcMain,
  type ElectronIpcRenderer,
  type ElectronWebContents,
  electronMain,
  electronPreload,
} from './bridge-electron.ts'
export { type ExposeApiOptions, exposeApi } from './bridge-main.ts'
export { type ConnectApiOptions, connectApi, facadeFailure } from './bridge-page.ts'
export type {
  Bridged,
  BridgedNames,
  BridgeOptions,
  FacadeFunctions,
  FunctionName,
  MainPort,
  PagePort,
} from './bridge-protocol.ts'
