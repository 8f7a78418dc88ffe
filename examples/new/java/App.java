import com.amazonaws.services.lambda.runtime.Context;
import java.util.Map;

/** An AWS Lambda function: `event` holds `kind`, `id`, `name` and `data` of what came. */
public class App {
    public Map<String, Object> handler(Map<String, Object> event, Context context) {
        var name = ((Map<?, ?>) event.get("data")).get("name");
        System.out.println(name + " was here");
        return Map.of("hello", name);
    }
}
