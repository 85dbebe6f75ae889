import Hashing
import OCI
import Testing

@Suite struct HashingTests {
    // FIPS 180-4 examples, as published by NIST.
    @Test func knownDigests() {
        #expect(
            Digest(of: Array("abc".utf8)).description
                == "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        )
        #expect(
            Digest(of: []).description == "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        )
        #expect(
            Digest(of: Array("abc".utf8), .sha512).hex.hasPrefix("ddaf35a193617abacc417349ae20413112e6fa4e89a97ea2")
        )
    }

    @Test func piecesHashAsTheWhole() {
        let content = (0..<10_000).map { UInt8(truncatingIfNeeded: $0 &* 31) }
        var hash = ContentHash(.sha256)
        for start in stride(from: 0, to: content.count, by: 777) {
            hash.update(content[start..<min(start + 777, content.count)].span)
        }
        #expect(hash.digest() == Digest(of: content))
        #expect(hash.digest() == Digest(of: content), "asking twice changes nothing")
    }

    @Test func aCopyGoesItsOwnWay() {
        var hash = ContentHash(.sha256)
        hash.update(Array("ab".utf8).span)
        let copy = hash.copy()
        hash.update(Array("x".utf8).span)
        var resumed = copy.copy()
        resumed.update(Array("c".utf8).span)
        #expect(resumed.digest() == Digest(of: Array("abc".utf8)))
        #expect(hash.digest() == Digest(of: Array("abx".utf8)))
    }

    @Test(arguments: [DigestAlgorithm.sha256, .sha512], [0, 1, 63, 64, 1000])
    func aKeptStateGoesOn(_ algorithm: DigestAlgorithm, _ start: Int) {
        let content = (0..<3000).map { UInt8(truncatingIfNeeded: $0 &* 31) }
        var hash = ContentHash(algorithm)
        hash.update(Array(content[..<start]).span)
        guard var resumed = ContentHash(algorithm, resuming: hash.state) else {
            Issue.record("the state was refused")
            return
        }
        resumed.update(Array(content[start...]).span)
        #expect(resumed.digest() == Digest(of: content, algorithm))
    }

    @Test func whatIsNoStateIsRefused() {
        let state = ContentHash(.sha256).state
        // A pattern match would need the hash to be copyable.
        func isRefused(_ algorithm: DigestAlgorithm, _ state: [UInt8]) -> Bool {
            if ContentHash(algorithm, resuming: state) != nil { false } else { true }
        }
        #expect(isRefused(.sha512, state))
        #expect(isRefused(.sha256, Array(state.dropLast())))
        #expect(isRefused(.sha256, state.map { _ in 0xff }))
    }

    // RFC 4231, test case 2; RFC 1321, appendix A.5.
    @Test func keyedAndLegacyHashes() {
        #expect(
            hexadecimal(hmacSHA256(key: Array("Jefe".utf8), Array("what do ya want for nothing?".utf8)))
                == "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        )
        #expect(hexadecimal(md5(Array("abc".utf8))) == "900150983cd24fb0d6963f7d28e17f72")
        #expect(hmacSHA256(key: [], []).count == 32)
    }

    @Test func aChecksumTellsBytesFromOthers() {
        let content = (0..<1000).map { UInt8(truncatingIfNeeded: $0 &* 31) }
        // It lies on disks.
        #expect(checksum(content.span) == 6_768_682_226_495_428_305)
        var seen: Set<UInt64> = []
        for count in 0...100 {
            let zeros = [UInt8](repeating: 0, count: count)
            seen.insert(checksum(zeros.span))
        }
        for count in 2...content.count {
            let start = Array(content[..<count])
            seen.insert(checksum(start.span))
        }
        for bit in 0..<8000 {
            var other = content
            other[bit / 8] ^= 1 << UInt8(bit % 8)
            seen.insert(checksum(other.span))
        }
        var swapped = content
        swapped.swapAt(0, 32)
        seen.insert(checksum(swapped.span))
        #expect(seen.count == 101 + 999 + 8000 + 1)
    }
}
