import FaultProxy
import ObjectStorage
import Synchronization
import System
import Testing
import Threading

/// Every fault, for every operation, against a real store: what becomes of it is printed as a table.
@Suite(.enabled(if: S3TestServer.port != nil, S3TestServer.reason)) struct FaultTableTests {
    private static let words = Set(["done", "done again", "read again", "refused by digest", "believed", "-"])

    @Test func noFaultDoesHarm() throws {
        let port = try #require(S3TestServer.port)
        let cells = TableFault.all.flatMap { fault in
            FaultedOperation.all.flatMap { operation in
                [false, true].map { FaultCell(operation: operation, fault: fault, isLasting: $0) }
            }
        }
        let folder = "faults-\(SystemRandom().token())"
        let outcomes = Monitor([String?](repeating: nil, count: cells.count))
        let pool = WorkerPool(name: "faults", threads: 16, queueLimit: cells.count)
        for (index, cell) in cells.enumerated() {
            _ = pool.submit {
                let outcome: String
                do {
                    outcome = try cell.outcome(in: folder, serverPort: port) ?? "-"
                } catch {
                    outcome = "FAILED: \(error)"
                }
                outcomes.update { $0[index] = outcome }
            }
        }
        _ = outcomes.wait(until: .after(.seconds(120))) { $0.contains(nil) ? nil : true }
        pool.close(until: .after(.seconds(1)))
        let found = outcomes.withLock { $0 }.map { $0 ?? "HANGS" }
        print(table(cells, found))
        for (cell, outcome) in zip(cells, found) { check(cell, outcome) }
    }

    private func check(_ cell: FaultCell, _ outcome: String) {
        let place = "\(cell.fault.name), \(cell.operation.name), \(cell.isLasting ? "each time" : "once"): \(outcome)"
        #expect(outcome.first?.isUppercase != true, "\(place)")
        guard !cell.isLasting else { return }
        let isHarmless = Self.words.contains(outcome)
        #expect(isHarmless || cell.mayFailOnce, "\(place)")
    }

    /// Each cell: what becomes of it when the fault strikes once, and each time.
    private func table(_ cells: [FaultCell], _ outcomes: [String]) -> String {
        let operations = FaultedOperation.all.map(\.name)
        var lines = [
            "| fault | \(operations.joined(separator: " | ")) |", "|---\(operations.map { _ in "|---" }.joined())|",
        ]
        let width = operations.count * 2
        for start in stride(from: 0, to: cells.count, by: width) {
            let row = stride(from: start, to: start + width, by: 2).map { index in
                outcomes[index] == outcomes[index + 1] ? outcomes[index] : "\(outcomes[index]); \(outcomes[index + 1])"
            }
            lines.append("| \(cells[start].fault.name) | \(row.joined(separator: " | ")) |")
        }
        return lines.joined(separator: "\n")
    }
}

extension FaultCell {
    /// What a second attempt cannot mend: a refusal, and lies that only another fetch of the whole can tell.
    fileprivate var mayFailOnce: Bool {
        switch fault.name {
        case "403 denied": true
        case "too short a length", "too long a length": operation.operation == .get
        // A store that minds the region has said so to the request before; to say it again is a lie.
        case "301 other region": [.uploadPart, .completeUpload].contains(operation.operation)
        default: false
        }
    }
}
