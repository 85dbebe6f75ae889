/// An element of a parsed document.
struct XMLElement: Equatable {
    /// Without its namespace prefix.
    var name: String
    /// All character data directly inside, as it stands.
    var text = ""
    var children: [XMLElement] = []

    /// The text of the first child of that name.
    func text(of child: String) -> String? { children.first { $0.name == child }?.text }

    func children(named name: String) -> [XMLElement] { children.filter { $0.name == name } }
}

/// A document that is not well-formed, or is more than S3 has reason to send.
struct XMLFailure: Error, Equatable, CustomStringConvertible {
    let reason: String
    /// In bytes from the start.
    let offset: Int

    var description: String { "bad XML at byte \(offset): \(reason)" }
}

/// Reads the XML that S3 speaks: elements and text in UTF-8.
///
/// Attributes and processing instructions are skipped. A document type is refused, so that there are no entities but the five of XML and
/// character references. Depth and number of elements are limited.
struct XMLReader {
    static let maximumDepth = 16
    static let maximumElements = 50_000

    private let bytes: [UInt8]
    private var position = 0
    private var elements = 0

    private init(_ bytes: [UInt8]) { self.bytes = bytes }

    /// The root element.
    static func read(_ bytes: [UInt8]) throws(XMLFailure) -> XMLElement {
        var reader = XMLReader(bytes)
        if bytes.starts(with: [0xEF, 0xBB, 0xBF]) { reader.position = 3 }
        try reader.skipMisc()
        let root = try reader.element(depth: 1)
        try reader.skipMisc()
        guard reader.position == bytes.count else { throw reader.failure("something follows the root element") }
        return root
    }

    private func failure(_ reason: String) -> XMLFailure { XMLFailure(reason: reason, offset: position) }

    private func isAt(_ text: String) -> Bool { bytes[position...].starts(with: text.utf8) }

    private mutating func expect(_ text: String) throws(XMLFailure) {
        guard isAt(text) else { throw failure("'\(text)' is missing") }
        position += text.utf8.count
    }

    private mutating func skip(through end: String) throws(XMLFailure) {
        while position < bytes.count {
            if isAt(end) {
                position += end.utf8.count
                return
            }
            position += 1
        }
        throw failure("'\(end)' is missing")
    }

    private mutating func skipSpace() {
        while position < bytes.count, isSpace(bytes[position]) { position += 1 }
    }

    /// White space, comments and processing instructions.
    private mutating func skipMisc() throws(XMLFailure) {
        while true {
            skipSpace()
            if isAt("<!--") {
                try skip(through: "-->")
            } else if isAt("<?") {
                try skip(through: "?>")
            } else {
                return
            }
        }
    }

    private mutating func element(depth: Int) throws(XMLFailure) -> XMLElement {
        guard depth <= Self.maximumDepth else { throw failure("elements are nested too deeply") }
        elements += 1
        guard elements <= Self.maximumElements else { throw failure("there are too many elements") }
        try expect("<")
        let name = try name()
        var element = XMLElement(name: name.split(separator: ":").last.map(String.init) ?? name)
        guard try !attributesEndElement() else { return element }
        var text: [UInt8] = []
        while !isAt("</") {
            try content(of: &element, text: &text, depth: depth)
        }
        position += 2
        guard try self.name() == name else { throw failure("the end of <\(printable(name, limit: 40))> is missing") }
        skipSpace()
        try expect(">")
        guard let string = String(validating: text, as: UTF8.self) else { throw failure("text is not UTF-8") }
        element.text = string
        return element
    }

    /// One piece of content: an element, text, a reference, a comment.
    private mutating func content(
        of element: inout XMLElement,
        text: inout [UInt8],
        depth: Int
    ) throws(XMLFailure) {
        guard position < bytes.count else { throw failure("the document ends within an element") }
        let run = bytes[position...].prefix { $0 != UInt8(ascii: "<") && $0 != UInt8(ascii: "&") }
        if !run.isEmpty {
            text += run
            position = run.endIndex
        } else if isAt("<!--") {
            try skip(through: "-->")
        } else if isAt("<?") {
            try skip(through: "?>")
        } else if isAt("<![CDATA[") {
            let start = position + 9
            try skip(through: "]]>")
            text += bytes[start..<position - 3]
        } else if isAt("<") {
            element.children.append(try self.element(depth: depth + 1))
        } else {
            text += try reference().utf8
        }
    }

    private mutating func name() throws(XMLFailure) -> String {
        let start = position
        while position < bytes.count, isNameByte(bytes[position]) { position += 1 }
        guard start < position, let name = String(validating: bytes[start..<position], as: UTF8.self) else {
            throw failure("a name is missing")
        }
        return name
    }

    /// True when the element ends here (`/>`).
    private mutating func attributesEndElement() throws(XMLFailure) -> Bool {
        while true {
            skipSpace()
            if isAt("/>") {
                position += 2
                return true
            }
            if isAt(">") {
                position += 1
                return false
            }
            _ = try name()
            skipSpace()
            try expect("=")
            skipSpace()
            guard isAt("\"") || isAt("'") else { throw failure("a quote is missing") }
            let quote: String = isAt("'") ? "'" : "\""
            position += 1
            try skip(through: quote)
        }
    }

    private mutating func reference() throws(XMLFailure) -> String {
        let start = position + 1
        guard let length = bytes[start...].prefix(12).firstIndex(of: UInt8(ascii: ";")).map({ $0 - start }) else {
            throw failure("an entity does not end")
        }
        let entity = String(decoding: bytes[start..<start + length], as: UTF8.self)
        guard let text = Self.replacement(for: entity) else { throw failure("an unknown entity") }
        position = start + length + 1
        return text
    }

    private static func replacement(for entity: String) -> String? {
        switch entity {
        case "amp": return "&"
        case "lt": return "<"
        case "gt": return ">"
        case "quot": return "\""
        case "apos": return "'"
        default:
            guard entity.utf8.first == UInt8(ascii: "#") else { return nil }
            let digits = entity.dropFirst()
            let value = digits.first == "x" ? UInt32(digits.dropFirst(), radix: 16) : UInt32(digits, radix: 10)
            guard digits.first != "+", let value, value != 0, let scalar = Unicode.Scalar(value) else { return nil }
            return String(scalar)
        }
    }
}

private func isSpace(_ byte: UInt8) -> Bool { byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 }

private func isNameByte(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "a")...UInt8(ascii: "z"),
        UInt8(ascii: "0")...UInt8(ascii: "9"), 0x80...:
        true
    case UInt8(ascii: ":"), UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"):
        true
    default:
        false
    }
}

/// Text as an element's content.
func xmlEscaped(_ text: String) -> String {
    var result = ""
    for scalar in text.unicodeScalars {
        switch scalar {
        case "&": result += "&amp;"
        case "<": result += "&lt;"
        case ">": result += "&gt;"
        default: result.unicodeScalars.append(scalar)
        }
    }
    return result
}
