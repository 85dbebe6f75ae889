internal import System

/// Processor, cores, memory and kernel of this machine, as far as it tells.
public func describeMachine() -> [String: String] {
    var description: [String: String] = [:]
    let processors = text("/proc/cpuinfo").split(separator: "\n")
    if let model = processors.first(where: { $0.hasPrefix("model name") }) {
        description["processor"] = value(model)
    }
    description["cores"] = String(processorCount())
    if let memory = text("/proc/meminfo").split(separator: "\n").first(where: { $0.hasPrefix("MemTotal") }),
        let kibibytes = Int64(value(memory).prefix { $0 != " " })
    {
        description["memory"] = sizeText(kibibytes << 10)
    }
    let kernel = text("/proc/sys/kernel/osrelease").filter { !$0.isNewline }
    if !kernel.isEmpty { description["kernel"] = "Linux \(kernel)" }
    return description
}

/// Processors that this process sees; 1 where the kernel does not tell.
func processorCount() -> Int {
    max(1, text("/proc/cpuinfo").split(separator: "\n").count(where: { $0.hasPrefix("processor") }))
}

private func value(_ line: Substring) -> String {
    String(line.drop { $0 != ":" }.dropFirst().drop { $0 == " " })
}

/// A file of /proc has no size. One that cannot be read says nothing, and is no error.
private func text(_ path: String) -> String {
    let files = LocalFileSystem()
    guard let file = try? files.open(path, .read),  // see above
        let bytes = try? files.read(file, at: 0, count: 256 << 10)  // see above
    else { return "" }
    return String(decoding: bytes, as: UTF8.self)
}
