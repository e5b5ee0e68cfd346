// A byte pipe over JSSE: stdin to the connection, the connection to stdout, and what it saw on stderr.
//
//     java Peer ROLE PORT WAY IDENTITY      (a PKCS #12 file under the password "bowout")
import java.io.FileInputStream;
import java.io.IOException;
import java.security.KeyStore;
import java.security.cert.X509Certificate;
import javax.net.ssl.*;

public class Peer {
    static final class Everybody implements X509TrustManager {
        public void checkClientTrusted(X509Certificate[] chain, String kind) {}
        public void checkServerTrusted(X509Certificate[] chain, String kind) {}
        public X509Certificate[] getAcceptedIssuers() { return new X509Certificate[0]; }
    }

    static synchronized void tell(String what, Object text) {
        System.err.println(what + ": " + text);
    }

    static SSLSocket connection(String role, int port, String identity) throws Exception {
        SSLContext context = SSLContext.getInstance("TLS");
        if (role.equals("client")) {
            context.init(null, new TrustManager[] {new Everybody()}, null);
            return (SSLSocket) context.getSocketFactory().createSocket("127.0.0.1", port);
        }
        KeyStore store = KeyStore.getInstance("PKCS12");
        try (var file = new FileInputStream(identity)) {
            store.load(file, "bowout".toCharArray());
        }
        var keys = KeyManagerFactory.getInstance(KeyManagerFactory.getDefaultAlgorithm());
        keys.init(store, "bowout".toCharArray());
        context.init(keys.getKeyManagers(), null, null);
        var loopback = java.net.InetAddress.getByName("127.0.0.1");
        try (var listener = context.getServerSocketFactory().createServerSocket(0, 1, loopback)) {
            tell("listening", listener.getLocalPort());
            return (SSLSocket) listener.accept();
        }
    }

    public static void main(String[] arguments) throws Exception {
        String way = arguments[2];
        SSLSocket socket = connection(arguments[0], Integer.parseInt(arguments[1]), arguments[3]);
        socket.startHandshake();
        Thread sender = new Thread(() -> {
            try {
                System.in.transferTo(socket.getOutputStream());
            } catch (IOException error) {
                tell("write", error);
            }
            try {
                if (way.equals("close()")) socket.close(); else socket.shutdownOutput();
            } catch (IOException error) {
                tell("end", error);
            }
        });
        sender.start();
        try {
            socket.getInputStream().transferTo(System.out);
            tell("read", "EOF");
        } catch (IOException error) {
            tell("read", error);
        }
        System.out.flush();
        System.out.close();
        sender.join();
        socket.close();
    }
}
