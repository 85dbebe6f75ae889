import FaultProxy

/// A proxy with nothing behind it: a server that answers as a test says, right or wrong.
typealias ScriptedServer = FaultProxy
