/// What objects are stored with, as far as the store offers it (Amazon S3 API Reference, "PutObject").
public struct S3ObjectOptions: Sendable, Equatable {
    public enum Encryption: Sendable, Equatable {
        /// `AES256`: the store's own keys.
        case storeKeys
        /// `aws:kms`; without a key's name, the account's.
        case kms(key: String?)
    }

    /// `nil`: as the bucket has it.
    public var encryption: Encryption?
    /// For example `STANDARD_IA`.
    public var storageClass: String?
    /// A canned one, for example `bucket-owner-full-control`.
    public var acl: String?

    public init(encryption: Encryption? = nil, storageClass: String? = nil, acl: String? = nil) {
        self.encryption = encryption
        self.storageClass = storageClass
        self.acl = acl
    }

    /// Of every request that makes an object: PutObject, CreateMultipartUpload, CopyObject.
    var headers: [(name: String, value: String)] {
        var headers: [(name: String, value: String)] = []
        switch encryption {
        case .storeKeys: headers.append(("x-amz-server-side-encryption", "AES256"))
        case .kms(let key):
            headers.append(("x-amz-server-side-encryption", "aws:kms"))
            if let key { headers.append(("x-amz-server-side-encryption-aws-kms-key-id", key)) }
        case nil: break
        }
        if let storageClass { headers.append(("x-amz-storage-class", storageClass)) }
        if let acl { headers.append(("x-amz-acl", acl)) }
        return headers
    }
}
