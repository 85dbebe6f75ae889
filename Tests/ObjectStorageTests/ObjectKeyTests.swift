import ObjectStorage
import Testing

@Suite struct ObjectKeyTests {
    @Test(arguments: [
        "a", "a/b", ".a", "a.", "...", "a/.../b", "..a", "a b", " ", "caf\u{E9}", "%2e%2e", "a\\..\\b", "~", "-", "C:",
        String(repeating: "a", count: 1_024), String(repeating: "a/", count: 511) + "b",
    ])
    func isAccepted(_ text: String) throws {
        #expect(try ObjectKey(text).description.utf8.elementsEqual(text.utf8))
    }

    @Test(arguments: [
        ("", InvalidKey.Rule.empty), ("/", .emptySegment), ("/a", .emptySegment), ("a/", .emptySegment),
        ("a//b", .emptySegment), (".", .dotSegment), ("..", .dotSegment), ("../a", .dotSegment), ("a/..", .dotSegment),
        ("a/../b", .dotSegment), ("a/./b", .dotSegment), ("a\u{0}b", .controlCharacter), ("a\nb", .controlCharacter),
        ("a\u{7F}", .controlCharacter), ("a\u{85}", .controlCharacter), ("\r\n", .controlCharacter),
        (String(repeating: "a", count: 1_025), .tooLong), (String(repeating: "\u{E9}", count: 513), .tooLong),
    ])
    func isRefused(_ text: String, _ rule: InvalidKey.Rule) {
        let error = #expect(throws: InvalidKey.self) { try ObjectKey(text) }
        #expect(error?.rule == rule)
        #expect(error.map { !$0.description.contains("\n") && $0.description.utf8.count < 300 } == true)
    }

    @Test func comparesBytes() throws {
        let composed = try ObjectKey("caf\u{E9}")
        let decomposed = try ObjectKey("cafe\u{301}")
        #expect(composed.description == decomposed.description, "equal as texts")
        #expect(composed != decomposed)
        #expect(Set([composed, decomposed]).count == 2)
        #expect(decomposed < composed, "0x65 is before 0xC3")
        let sorted = try ["b", "a/b", "a", "a.b", "B", "\u{FF5E}", "\u{1F600}"].map { try ObjectKey($0) }.sorted()
        #expect(sorted.map(\.description) == ["B", "a", "a.b", "a/b", "b", "\u{FF5E}", "\u{1F600}"])
    }
}
