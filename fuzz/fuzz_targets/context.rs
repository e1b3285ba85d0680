//! Contexts from files: no panic, bounded memory, and what is read is written back octet for octet.
//!
//! The first octet chooses: the encoding of one context, which is then sealed and opened again, or a whole stream.
#![no_main]

use baton_ctx_transfer::restore::prepare;
use baton_ctx_transfer::{ClusterKey, Context, ContextReader, ContextWriter, OpenWith, SealWith};
use baton_sad::{ClusterId, NodeId, Sender};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    match input.split_first() {
        Some((0, encoded)) => one(encoded),
        Some((_, stream)) => all(stream),
        None => {}
    }
});

fn one(encoded: &[u8]) {
    let Ok(context) = Context::decode(encoded) else { return };
    assert_eq!(&context.encode()[..], encoded);
    let us = Sender { cluster: ClusterId::new(1), node: NodeId::new(1).expect("not 0") };
    if let Ok(sas) = prepare(&context, us, 1 << 20) {
        assert_eq!(sas.len(), context.sas.len());
        assert!(sas.iter().all(|(sa, _)| sa.validate().is_ok()));
    }
    let key = ClusterKey::new(&[7; 32]);
    for how in [SealWith::Key(&key), SealWith::Clear] {
        let mut writer = ContextWriter::new(Vec::new(), how).expect("memory is written");
        // It may be larger than readers accept.
        if writer.write(&context).is_err() {
            return;
        }
        let stream = writer.finish().expect("memory is written");
        let open = OpenWith { key: Some(&key), clear: true };
        let mut reader = ContextReader::new(&stream[..], open).expect("just written");
        assert_eq!(reader.next().expect("just written").as_ref(), Some(&context));
        assert_eq!(reader.next().expect("just written"), None);
    }
}

fn all(stream: &[u8]) {
    let key = ClusterKey::new(&[7; 32]);
    let Ok(mut reader) = ContextReader::new(stream, OpenWith { key: Some(&key), clear: true }) else {
        return;
    };
    while let Ok(Some(context)) = reader.next() {
        assert!(!context.sas.is_empty());
    }
}
