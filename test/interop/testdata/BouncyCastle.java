import java.io.ByteArrayInputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyPairGenerator;
import java.security.PrivateKey;
import java.security.Security;
import java.security.cert.CertificateFactory;
import java.security.cert.X509Certificate;
import java.security.interfaces.ECPublicKey;
import java.security.spec.MGF1ParameterSpec;
import java.util.Base64;
import java.util.List;
import javax.crypto.spec.OAEPParameterSpec;
import javax.crypto.spec.PSource;
import org.bouncycastle.asn1.ASN1Encoding;
import org.bouncycastle.asn1.cms.CMSObjectIdentifiers;
import org.bouncycastle.asn1.pkcs.PrivateKeyInfo;
import org.bouncycastle.cert.jcajce.JcaCertStore;
import org.bouncycastle.cms.*;
import org.bouncycastle.cms.jcajce.*;
import org.bouncycastle.jce.provider.BouncyCastleProvider;
import org.bouncycastle.openssl.jcajce.JcaPEMKeyConverter;
import org.bouncycastle.operator.OutputAEADEncryptor;
import org.bouncycastle.operator.jcajce.JcaAlgorithmParametersConverter;
import org.bouncycastle.operator.jcajce.JcaContentSignerBuilder;
import org.bouncycastle.operator.jcajce.JcaDigestCalculatorProviderBuilder;

/** Bouncy Castle as a peer: one operation on a file; what comes of it goes to standard output. */
public class BouncyCastle {
    public static void main(String[] a) throws Exception {
        Security.addProvider(new BouncyCastleProvider());
        byte[] in = Files.readAllBytes(Path.of(a[1]));
        byte[] out;
        switch (a[0]) {
            case "encrypt": // FILE cbc|gcm pkcs1v15|oaep CERTIFICATE
                out = encrypt(in, a[2].equals("gcm"), a[3].equals("oaep"), certificate(a[4]));
                break;
            case "decrypt": // FILE CERTIFICATE KEY
                out = decrypt(in, certificate(a[2]), key(a[3]));
                break;
            case "sign": // FILE ALGORITHM CERTIFICATE KEY
                out = sign(in, a[2], certificate(a[3]), key(a[4]));
                break;
            case "verify": // FILE CERTIFICATE [CONTENT]
                out = verify(a.length > 3 ? new CMSSignedData(new CMSProcessableByteArray(Files.readAllBytes(Path.of(a[3]))), in) : new CMSSignedData(in), certificate(a[2]));
                break;
            default:
                throw new IllegalArgumentException(a[0]);
        }
        System.out.write(out);
        System.out.flush();
    }

    static X509Certificate certificate(String file) throws Exception {
        return (X509Certificate) CertificateFactory.getInstance("X.509").generateCertificate(new ByteArrayInputStream(Files.readAllBytes(Path.of(file))));
    }

    static PrivateKey key(String file) throws Exception {
        String pem = Files.readString(Path.of(file)).replaceAll("-----[A-Z ]*-----|\\s", "");
        return new JcaPEMKeyConverter().setProvider("BC").getPrivateKey(PrivateKeyInfo.getInstance(Base64.getDecoder().decode(pem)));
    }

    static boolean isRSA(X509Certificate c) {
        return c.getPublicKey().getAlgorithm().equals("RSA");
    }

    static RecipientInfoGenerator recipient(X509Certificate c, boolean oaep) throws Exception {
        if (isRSA(c)) {
            if (!oaep) {
                return new JceKeyTransRecipientInfoGenerator(c).setProvider("BC");
            }
            var spec = new OAEPParameterSpec("SHA-256", "MGF1", MGF1ParameterSpec.SHA256, PSource.PSpecified.DEFAULT);
            var id = new JcaAlgorithmParametersConverter().getAlgorithmIdentifier(org.bouncycastle.asn1.pkcs.PKCSObjectIdentifiers.id_RSAES_OAEP, spec);
            return new JceKeyTransRecipientInfoGenerator(c, id).setProvider("BC");
        }
        var pairs = KeyPairGenerator.getInstance("EC", "BC");
        pairs.initialize(((ECPublicKey) c.getPublicKey()).getParams());
        var own = pairs.generateKeyPair();
        return new JceKeyAgreeRecipientInfoGenerator(CMSAlgorithm.ECDH_SHA256KDF, own.getPrivate(), own.getPublic(), CMSAlgorithm.AES256_WRAP).addRecipient(c).setProvider("BC");
    }

    static byte[] encrypt(byte[] in, boolean gcm, boolean oaep, X509Certificate c) throws Exception {
        var content = new CMSProcessableByteArray(in);
        if (gcm) {
            var g = new CMSAuthEnvelopedDataGenerator();
            g.addRecipientInfoGenerator(recipient(c, oaep));
            return g.generate(content, (OutputAEADEncryptor) new JceCMSContentEncryptorBuilder(CMSAlgorithm.AES256_GCM).setProvider("BC").build()).getEncoded();
        }
        var g = new CMSEnvelopedDataGenerator();
        g.addRecipientInfoGenerator(recipient(c, oaep));
        return g.generate(content, new JceCMSContentEncryptorBuilder(CMSAlgorithm.AES256_CBC).setProvider("BC").build()).getEncoded();
    }

    static byte[] decrypt(byte[] in, X509Certificate c, PrivateKey k) throws Exception {
        var kind = org.bouncycastle.asn1.cms.ContentInfo.getInstance(in).getContentType();
        boolean authenticated = kind.equals(CMSObjectIdentifiers.authEnvelopedData);
        var all = authenticated ? new CMSAuthEnvelopedData(in).getRecipientInfos() : new CMSEnvelopedData(in).getRecipientInfos();
        var mine = all.get(isRSA(c) ? new JceKeyTransRecipientId(c) : new JceKeyAgreeRecipientId(c));
        Recipient how;
        if (isRSA(c)) {
            how = authenticated ? new JceKeyTransAuthEnvelopedRecipient(k).setProvider("BC") : new JceKeyTransEnvelopedRecipient(k).setProvider("BC");
        } else {
            how = new JceKeyAgreeEnvelopedRecipient(k).setProvider("BC"); // 1.72 has none for AuthEnvelopedData
        }
        return mine.getContent(how);
    }

    static byte[] sign(byte[] in, String algorithm, X509Certificate c, PrivateKey k) throws Exception {
        var g = new CMSSignedDataGenerator();
        var digests = new JcaDigestCalculatorProviderBuilder().setProvider("BC").build();
        g.addSignerInfoGenerator(new JcaSignerInfoGeneratorBuilder(digests).build(new JcaContentSignerBuilder(algorithm).setProvider("BC").build(k), c));
        g.addCertificates(new JcaCertStore(List.of(c)));
        return g.generate(new CMSProcessableByteArray(in), true).getEncoded(ASN1Encoding.DER);
    }

    static byte[] verify(CMSSignedData s, X509Certificate c) throws Exception {
        for (SignerInformation one : s.getSignerInfos()) {
            if (!one.verify(new JcaSimpleSignerInfoVerifierBuilder().setProvider("BC").build(c))) {
                throw new Exception("the signature is not good");
            }
        }
        return (byte[]) s.getSignedContent().getContent();
    }
}
