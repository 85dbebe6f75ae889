internal import Logging
internal import RegistryAPI
internal import Settings
internal import System

/// The program's log on standard error: text for people, JSON lines for machines. One write for each line.
enum Logs {
    static func start(_ settings: Settings) {
        let isJSON =
            switch settings.logFormat {
            case .json: true
            case .text: false
            case .auto: !standardErrorIsTerminal()
            }
        let level = settings.logLevel
        LoggingSystem.bootstrap { _ in LineHandler(isJSON: isJSON, logLevel: level) }
    }
}

/// Writes a line for each event.
private struct LineHandler: LogHandler {
    let isJSON: Bool
    var logLevel: Logger.Level
    var metadata: Logger.Metadata = [:]

    init(isJSON: Bool, logLevel: Logger.Level) {
        self.isJSON = isJSON
        self.logLevel = logLevel
    }

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        let fields = metadata.merging(event.metadata ?? [:]) { $1 }.sorted { $0.key < $1.key }
        let time = SystemTime().wallTime().rfc3339
        writeToStandardError(
            isJSON ? json(time, event.level, event.message, fields) : text(time, event.level, event.message, fields)
        )
    }

    private func text(
        _ time: String,
        _ level: Logger.Level,
        _ message: Logger.Message,
        _ fields: [(key: String, value: Logger.Metadata.Value)]
    ) -> String {
        let pairs = fields.map { " \($0.key)=\(quotedIfNeeded("\($0.value)"))" }.joined()
        return "\(time) \(level.rawValue.uppercased()) \(message)\(pairs)\n"
    }

    private func json(
        _ time: String,
        _ level: Logger.Level,
        _ message: Logger.Message,
        _ fields: [(key: String, value: Logger.Metadata.Value)]
    ) -> String {
        let own: [(key: String, value: String)] = [("ts", time), ("level", level.rawValue), ("msg", "\(message)")]
        let pairs = (own + fields.map { ($0.key, "\($0.value)") }).map {
            "\(jsonString($0.key)):\(jsonString($0.value))"
        }
        return "{\(pairs.joined(separator: ","))}\n"
    }

    private func quotedIfNeeded(_ text: String) -> String {
        text.isEmpty || text.unicodeScalars.contains { $0.value <= 32 || $0 == "\"" || $0 == "=" }
            ? jsonString(text) : text
    }
}
