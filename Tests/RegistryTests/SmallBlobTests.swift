import Hashing
import OCI
import ObjectStorage
import Registry
import TestDoubles
import Testing
import Threading

/// When the push of a small blob asks first, and when it goes out at once.
@Suite struct SmallBlobTests {
    let store = MemoryStore(sizeOfALookBytes: 100)

    /// Runs `body` while three other pushes are under way, which looked, as did those that came first after them.
    private func whileManyPush(to store: MemoryStore, _ body: (Registry) throws -> Void) throws {
        let registry = Registry(store: store)
        let pool = WorkerPool(name: "push", threads: 3, queueLimit: 3)
        let gate = Gate()
        let others = (0..<3).map { [200 + UInt8($0)] }
        store.intercept { _, _ throws(StoreError) in gate.pass() }
        for other in others {
            _ = pool.submit { _ = try? registry.pushBlob(Digest(of: other), from: .bytes(other)) }
        }
        gate.waitForArrivals(3)
        defer {
            gate.open()
            pool.close()
        }
        store.intercept(nil)
        for byte: UInt8 in 210..<223 { #expect(try push(registry, byte)) }
        #expect(store.calls("HEAD") == 13)
        store.intercept(nil)
        try body(registry)
    }

    private func whileManyPush(_ body: (Registry) throws -> Void) throws { try whileManyPush(to: store, body) }

    private func push(_ registry: Registry, _ byte: UInt8) throws -> Bool {
        try registry.pushBlob(Digest(of: [byte]), from: .bytes([byte]))
    }

    private func put(_ byte: UInt8, in other: MemoryStore? = nil) {
        (other ?? store)["epoch/blobs/sha256/\(Digest(of: [byte]).hex)"] = [byte]
    }

    /// Bug: up to 32 KiB, the origin got the bytes of what it had.
    @Test func whatIsThereIsNotSent() throws {
        let registry = Registry(store: store)
        put(1)
        store.intercept(nil)
        #expect(try push(registry, 1) == false)
        #expect(store.calls.map(\.operation) == ["HEAD"])
        #expect(try push(registry, 2))
        #expect(store.calls.map(\.operation) == ["HEAD", "HEAD", "PUT"])
    }

    @Test func amongManyNobodyLooksUntilOneIsThere() throws {
        put(5)
        put(15)
        try whileManyPush { registry throws in
            #expect(try push(registry, 1))
            #expect(store.calls.map(\.operation) == ["PUT"])
            #expect(try push(registry, 5) == false)
            #expect(store.calls.map(\.operation) == ["PUT", "PUT", "HEAD"])
            store.intercept(nil)
            #expect(try push(registry, 15) == false)
            #expect(store.calls.map(\.operation) == ["HEAD"])
        }
    }

    /// A store that says that a blob is there, and does not have it, is not believed.
    @Test func aRefusedConditionIsNoBlob() throws {
        put(5)
        let (store, key) = (store, "epoch/blobs/sha256/\(Digest(of: [5]).hex)")
        let forget: @Sendable (Int, MemoryStore.Call) throws(StoreError) -> Void = { _, call throws(StoreError) in
            if call.operation == "HEAD" { store[key] = nil }
        }
        try whileManyPush { registry throws in
            store.intercept(forget)
            #expect(try push(registry, 5))
            #expect(store.calls.map(\.operation) == ["PUT", "HEAD", "PUT"] && store[key] == [5])
        }
    }

    @Test func theyLookNoLongerThanBlobsAreThere() throws {
        put(5)
        try whileManyPush { registry throws in
            #expect(try push(registry, 5) == false)
            store.intercept(nil)
            for byte: UInt8 in 100..<164 { #expect(try push(registry, byte)) }
            #expect(store.calls("HEAD") == 64)
            #expect(try push(registry, 164))
            #expect(store.calls("HEAD") == 64)
        }
    }

    /// Bug: where a store knows no conditions each of many small pushes looked, and took 1.8 of the time of plain PUTs.
    @Test func withoutConditionsManyGoOutAtOnceToo() throws {
        let store = MemoryStore(conditionalWrites: false, sizeOfALookBytes: 100)
        put(5, in: store)
        try whileManyPush(to: store) { registry throws in
            #expect(try push(registry, 1) && push(registry, 5), "nobody can tell that it is there")
            #expect(store.calls.map(\.operation) == ["PUT", "PUT"])
        }
    }

    /// Bug: among many, the push of a blob that was there failed where a store lets nobody overwrite.
    @Test func whatMayNotBeOverwrittenIsThere() throws {
        let store = MemoryStore(conditionalWrites: false, sizeOfALookBytes: 100)
        put(5, in: store)
        try whileManyPush(to: store) { registry throws in
            store.intercept { _, call throws(StoreError) in
                if call.operation == "PUT" { throw StoreError(.put, in: "memory", .denied, "", status: 403) }
            }
            #expect(try push(registry, 5) == false)
            #expect(throws: RegistryError.self) { try push(registry, 6) }
        }
    }

    /// So that what is pushed again is soon found out. Where a write tells by itself, nobody needs to look for that.
    @Test(arguments: [false, true])
    func amongManyOneLooksNowAndThen(_ hasConditions: Bool) throws {
        let store = MemoryStore(conditionalWrites: hasConditions, sizeOfALookBytes: 100)
        put(132, in: store)
        put(133, in: store)
        try whileManyPush(to: store) { registry throws in
            for byte: UInt8 in 100..<132 { #expect(try push(registry, byte)) }
            #expect(store.calls("HEAD") == 0)
            #expect(try push(registry, 132) == false && push(registry, 133) == false)
            #expect(store.calls("HEAD") == 2 && store.calls("PUT") == (hasConditions ? 33 : 32))
        }
    }

    enum Refusal: CaseIterable {
        case unsupported, denied, conflict, badRequest

        var error: StoreError {
            switch self {
            case .unsupported: StoreError(.put, in: "memory", .unsupported, "", status: 501)
            case .denied: StoreError(.put, in: "memory", .denied, "", status: 403)
            case .conflict: StoreError(.put, in: "memory", .conflict, "", status: 409)
            case .badRequest: StoreError(.put, in: "memory", .other, "", status: 400)
            }
        }
    }

    /// Bug: a store that honoured conditions once, and then refused them, took no small blobs any more.
    @Test(arguments: Refusal.allCases)
    func aConditionThatIsRefusedIsLeftOut(_ refusal: Refusal) throws {
        let refuseFirst: @Sendable (Int, MemoryStore.Call) throws(StoreError) -> Void = {
            number,
            _ throws(StoreError) in
            if number == 1 { throw refusal.error }
        }
        try whileManyPush { registry throws in
            store.intercept(refuseFirst)
            #expect(try push(registry, 1))
            #expect(store.calls.map(\.operation) == ["PUT", "HEAD", "PUT"])
        }
    }
}
